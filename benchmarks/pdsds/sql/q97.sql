-- How many customers bought an item in stores only, by catalog only, or both, over a year.
WITH ss AS (
    SELECT ss_customer_sk AS customer, ss_item_sk AS item
    FROM store_sales JOIN date_dim ON ss_sold_date_sk = d_date_sk
    WHERE d_month_seq BETWEEN 1200 AND 1211
    GROUP BY ss_customer_sk, ss_item_sk
), cs AS (
    SELECT cs_bill_customer_sk AS customer, cs_item_sk AS item
    FROM catalog_sales JOIN date_dim ON cs_sold_date_sk = d_date_sk
    WHERE d_month_seq BETWEEN 1200 AND 1211
    GROUP BY cs_bill_customer_sk, cs_item_sk
)
SELECT SUM(CASE WHEN ss.customer IS NOT NULL AND cs.customer IS NULL THEN 1 ELSE 0 END) AS store_only,
       SUM(CASE WHEN ss.customer IS NULL AND cs.customer IS NOT NULL THEN 1 ELSE 0 END) AS catalog_only,
       SUM(CASE WHEN ss.customer IS NOT NULL AND cs.customer IS NOT NULL THEN 1 ELSE 0 END) AS both
FROM ss FULL JOIN cs ON ss.customer = cs.customer AND ss.item = cs.item
LIMIT 100
