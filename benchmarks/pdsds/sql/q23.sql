-- What the best store customers bought of frequently sold items, in a month, by catalog and on the web.
WITH frequent AS (
    SELECT SUBSTRING(i_item_desc, 1, 30) AS description, i_item_sk AS item, d_date AS day, COUNT(*) AS cnt
    FROM store_sales JOIN date_dim ON ss_sold_date_sk = d_date_sk JOIN item ON ss_item_sk = i_item_sk
    WHERE d_year IN (2000, 2001, 2002, 2003)
    GROUP BY SUBSTRING(i_item_desc, 1, 30), i_item_sk, d_date
    HAVING COUNT(*) > 4
), spent AS (
    SELECT c_customer_sk AS customer, SUM(ss_quantity * ss_sales_price) AS total
    FROM store_sales JOIN customer ON ss_customer_sk = c_customer_sk JOIN date_dim ON ss_sold_date_sk = d_date_sk
    WHERE d_year IN (2000, 2001, 2002, 2003)
    GROUP BY c_customer_sk
), most AS (
    SELECT MAX(total) AS most_spent FROM spent
), best AS (
    SELECT ss_customer_sk AS best_customer, SUM(ss_quantity * ss_sales_price) AS total
    FROM store_sales CROSS JOIN most
    WHERE ss_customer_sk IS NOT NULL
    GROUP BY ss_customer_sk
    HAVING SUM(ss_quantity * ss_sales_price) > 0.5 * MAX(most_spent)
)
SELECT c_last_name, c_first_name, sales
FROM (
    SELECT c_last_name, c_first_name, SUM(cs_quantity * cs_list_price) AS sales
    FROM catalog_sales
    JOIN customer ON cs_bill_customer_sk = c_customer_sk
    JOIN date_dim ON cs_sold_date_sk = d_date_sk
    JOIN frequent ON cs_item_sk = item
    JOIN best ON cs_bill_customer_sk = best_customer
    WHERE d_year = 2000 AND d_moy = 2
    GROUP BY c_last_name, c_first_name
    UNION ALL
    SELECT c_last_name, c_first_name, SUM(ws_quantity * ws_list_price) AS sales
    FROM web_sales
    JOIN customer ON ws_bill_customer_sk = c_customer_sk
    JOIN date_dim ON ws_sold_date_sk = d_date_sk
    JOIN frequent ON ws_item_sk = item
    JOIN best ON ws_bill_customer_sk = best_customer
    WHERE d_year = 2000 AND d_moy = 2
    GROUP BY c_last_name, c_first_name
) AS bought
ORDER BY c_last_name NULLS FIRST, c_first_name NULLS FIRST, sales NULLS FIRST
LIMIT 100
