-- Customers whose net payments grew faster on the web than in stores, from 2001 to 2002.
WITH yearly AS (
    SELECT c_customer_id AS customer, c_first_name AS first_name, c_last_name AS last_name, d_year AS year,
           SUM(ss_net_paid) AS total, 's' AS channel
    FROM store_sales JOIN customer ON c_customer_sk = ss_customer_sk JOIN date_dim ON ss_sold_date_sk = d_date_sk
    WHERE d_year IN (2001, 2002)
    GROUP BY c_customer_id, c_first_name, c_last_name, d_year
    UNION ALL
    SELECT c_customer_id AS customer, c_first_name AS first_name, c_last_name AS last_name, d_year AS year,
           SUM(ws_net_paid) AS total, 'w' AS channel
    FROM web_sales JOIN customer ON c_customer_sk = ws_bill_customer_sk JOIN date_dim ON ws_sold_date_sk = d_date_sk
    WHERE d_year IN (2001, 2002)
    GROUP BY c_customer_id, c_first_name, c_last_name, d_year
), s1 AS (SELECT customer AS k1, total AS t1 FROM yearly WHERE channel = 's' AND year = 2001 AND total > 0),
   s2 AS (SELECT customer AS k2, first_name, last_name, total AS t2 FROM yearly WHERE channel = 's' AND year = 2002),
   w1 AS (SELECT customer AS k3, total AS t3 FROM yearly WHERE channel = 'w' AND year = 2001 AND total > 0),
   w2 AS (SELECT customer AS k4, total AS t4 FROM yearly WHERE channel = 'w' AND year = 2002)
SELECT k2 AS customer, first_name, last_name
FROM s2 JOIN s1 ON k1 = k2 JOIN w1 ON k3 = k2 JOIN w2 ON k4 = k2
WHERE t4 / t3 > t2 / t1
ORDER BY customer
LIMIT 100
