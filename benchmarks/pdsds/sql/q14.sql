-- Sales of November 2001, by channel and kind of item, of kinds sold by all channels and above the average sale.
WITH common_kinds AS (
    SELECT i_brand_id AS brand, i_class_id AS class, i_category_id AS category
    FROM store_sales JOIN item ON ss_item_sk = i_item_sk JOIN date_dim ON ss_sold_date_sk = d_date_sk
    WHERE d_year BETWEEN 1999 AND 2001
    INTERSECT
    SELECT i_brand_id AS brand, i_class_id AS class, i_category_id AS category
    FROM catalog_sales JOIN item ON cs_item_sk = i_item_sk JOIN date_dim ON cs_sold_date_sk = d_date_sk
    WHERE d_year BETWEEN 1999 AND 2001
    INTERSECT
    SELECT i_brand_id AS brand, i_class_id AS class, i_category_id AS category
    FROM web_sales JOIN item ON ws_item_sk = i_item_sk JOIN date_dim ON ws_sold_date_sk = d_date_sk
    WHERE d_year BETWEEN 1999 AND 2001
), common_items AS (
    SELECT i_item_sk AS common_item
    FROM item JOIN common_kinds ON i_brand_id = brand AND i_class_id = class AND i_category_id = category
), average AS (
    SELECT AVG(quantity * price) AS usual
    FROM (
        SELECT ss_quantity AS quantity, ss_list_price AS price
        FROM store_sales JOIN date_dim ON ss_sold_date_sk = d_date_sk WHERE d_year BETWEEN 1999 AND 2001
        UNION ALL
        SELECT cs_quantity AS quantity, cs_list_price AS price
        FROM catalog_sales JOIN date_dim ON cs_sold_date_sk = d_date_sk WHERE d_year BETWEEN 1999 AND 2001
        UNION ALL
        SELECT ws_quantity AS quantity, ws_list_price AS price
        FROM web_sales JOIN date_dim ON ws_sold_date_sk = d_date_sk WHERE d_year BETWEEN 1999 AND 2001
    ) AS sold
), november AS (
    SELECT 'store' AS channel, i_brand_id, i_class_id, i_category_id, SUM(ss_quantity * ss_list_price) AS sales,
           COUNT(*) AS number_sales
    FROM store_sales JOIN item ON ss_item_sk = i_item_sk JOIN date_dim ON ss_sold_date_sk = d_date_sk
    WHERE ss_item_sk IN (SELECT common_item FROM common_items) AND d_year = 2001 AND d_moy = 11
    GROUP BY i_brand_id, i_class_id, i_category_id
    UNION ALL
    SELECT 'catalog' AS channel, i_brand_id, i_class_id, i_category_id, SUM(cs_quantity * cs_list_price) AS sales,
           COUNT(*) AS number_sales
    FROM catalog_sales JOIN item ON cs_item_sk = i_item_sk JOIN date_dim ON cs_sold_date_sk = d_date_sk
    WHERE cs_item_sk IN (SELECT common_item FROM common_items) AND d_year = 2001 AND d_moy = 11
    GROUP BY i_brand_id, i_class_id, i_category_id
    UNION ALL
    SELECT 'web' AS channel, i_brand_id, i_class_id, i_category_id, SUM(ws_quantity * ws_list_price) AS sales,
           COUNT(*) AS number_sales
    FROM web_sales JOIN item ON ws_item_sk = i_item_sk JOIN date_dim ON ws_sold_date_sk = d_date_sk
    WHERE ws_item_sk IN (SELECT common_item FROM common_items) AND d_year = 2001 AND d_moy = 11
    GROUP BY i_brand_id, i_class_id, i_category_id
)
SELECT channel, i_brand_id, i_class_id, i_category_id, SUM(sales) AS sales, SUM(number_sales) AS number_sales
FROM november
WHERE sales > (SELECT usual FROM average)
GROUP BY ROLLUP (channel, i_brand_id, i_class_id, i_category_id)
ORDER BY channel NULLS FIRST, i_brand_id NULLS FIRST, i_class_id NULLS FIRST, i_category_id NULLS FIRST
LIMIT 100
