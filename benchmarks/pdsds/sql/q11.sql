-- Customers whose spending grew faster on the web than in stores, from 2001 to 2002.
WITH yearly AS (
    SELECT c_customer_id AS customer, c_first_name AS first_name, c_last_name AS last_name,
           c_preferred_cust_flag AS preferred, d_year AS year, SUM(ss_ext_list_price - ss_ext_discount_amt) AS total,
           's' AS channel
    FROM customer, store_sales, date_dim
    WHERE c_customer_sk = ss_customer_sk AND ss_sold_date_sk = d_date_sk
    GROUP BY c_customer_id, c_first_name, c_last_name, c_preferred_cust_flag, d_year
    UNION ALL
    SELECT c_customer_id AS customer, c_first_name AS first_name, c_last_name AS last_name,
           c_preferred_cust_flag AS preferred, d_year AS year, SUM(ws_ext_list_price - ws_ext_discount_amt) AS total,
           'w' AS channel
    FROM customer, web_sales, date_dim
    WHERE c_customer_sk = ws_bill_customer_sk AND ws_sold_date_sk = d_date_sk
    GROUP BY c_customer_id, c_first_name, c_last_name, c_preferred_cust_flag, d_year
)
SELECT s2.customer, s2.first_name, s2.last_name, s2.preferred
FROM yearly AS s1, yearly AS s2, yearly AS w1, yearly AS w2
WHERE s2.customer = s1.customer AND w1.customer = s1.customer AND w2.customer = s1.customer
  AND s1.channel = 's' AND s2.channel = 's' AND w1.channel = 'w' AND w2.channel = 'w'
  AND s1.year = 2001 AND s2.year = 2002 AND w1.year = 2001 AND w2.year = 2002
  AND s1.total > 0 AND w1.total > 0
  AND CASE WHEN w1.total > 0 THEN w2.total / w1.total ELSE 0.0 END > CASE WHEN s1.total > 0 THEN s2.total / s1.total ELSE 0.0 END
ORDER BY s2.customer, s2.first_name, s2.last_name, s2.preferred
LIMIT 100
