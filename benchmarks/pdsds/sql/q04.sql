-- Customers whose spending grew faster by catalog than in stores and on the web, from 2001 to 2002.
WITH yearly AS (
    SELECT c_customer_sk AS customer, d_year AS year, 's' AS channel,
           SUM((ss_ext_list_price - ss_ext_wholesale_cost - ss_ext_discount_amt + ss_ext_sales_price) / 2) AS total
    FROM store_sales JOIN customer ON ss_customer_sk = c_customer_sk JOIN date_dim ON ss_sold_date_sk = d_date_sk
    WHERE d_year IN (2001, 2002)
    GROUP BY c_customer_sk, d_year
    UNION ALL
    SELECT c_customer_sk AS customer, d_year AS year, 'c' AS channel,
           SUM((cs_ext_list_price - cs_ext_wholesale_cost - cs_ext_discount_amt + cs_ext_sales_price) / 2) AS total
    FROM catalog_sales JOIN customer ON cs_bill_customer_sk = c_customer_sk JOIN date_dim ON cs_sold_date_sk = d_date_sk
    WHERE d_year IN (2001, 2002)
    GROUP BY c_customer_sk, d_year
    UNION ALL
    SELECT c_customer_sk AS customer, d_year AS year, 'w' AS channel,
           SUM((ws_ext_list_price - ws_ext_wholesale_cost - ws_ext_discount_amt + ws_ext_sales_price) / 2) AS total
    FROM web_sales JOIN customer ON ws_bill_customer_sk = c_customer_sk JOIN date_dim ON ws_sold_date_sk = d_date_sk
    WHERE d_year IN (2001, 2002)
    GROUP BY c_customer_sk, d_year
)
SELECT c_customer_id, c_first_name, c_last_name, c_preferred_cust_flag
FROM yearly AS s1
JOIN yearly AS s2 ON s2.customer = s1.customer
JOIN yearly AS c1 ON c1.customer = s1.customer
JOIN yearly AS c2 ON c2.customer = s1.customer
JOIN yearly AS w1 ON w1.customer = s1.customer
JOIN yearly AS w2 ON w2.customer = s1.customer
JOIN customer ON c_customer_sk = s1.customer
WHERE s1.channel = 's' AND s1.year = 2001 AND s2.channel = 's' AND s2.year = 2002
  AND c1.channel = 'c' AND c1.year = 2001 AND c2.channel = 'c' AND c2.year = 2002
  AND w1.channel = 'w' AND w1.year = 2001 AND w2.channel = 'w' AND w2.year = 2002
  AND s1.total > 0 AND c1.total > 0 AND w1.total > 0
  AND c2.total / c1.total > s2.total / s1.total
  AND c2.total / c1.total > w2.total / w1.total
ORDER BY c_customer_id, c_first_name, c_last_name, c_preferred_cust_flag
LIMIT 100
