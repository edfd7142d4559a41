-- Catalog revenue of items in a month, and its share of the revenue of their class.
WITH revenues AS (
    SELECT i_item_id, i_item_desc, i_category, i_class, i_current_price, SUM(cs_ext_sales_price) AS revenue
    FROM catalog_sales JOIN item ON cs_item_sk = i_item_sk JOIN date_dim ON cs_sold_date_sk = d_date_sk
    WHERE i_category IN ('Sports', 'Books', 'Home') AND d_date BETWEEN DATE '1999-02-22' AND DATE '1999-03-24'
    GROUP BY i_item_id, i_item_desc, i_category, i_class, i_current_price
)
SELECT *, revenue * 100.0 / SUM(revenue) OVER (PARTITION BY i_class) AS share
FROM revenues
ORDER BY i_category, i_class, i_item_id, i_item_desc, share
LIMIT 100
