-- Brands of a manager sold around breakfast and dinner in November 1999, all channels together.
SELECT i_brand_id AS brand_id, i_brand AS brand, t_hour, t_minute, SUM(price) AS total
FROM (
    SELECT ws_ext_sales_price AS price, ws_item_sk AS item, ws_sold_time_sk AS time
    FROM web_sales JOIN date_dim ON d_date_sk = ws_sold_date_sk WHERE d_moy = 11 AND d_year = 1999
    UNION ALL
    SELECT cs_ext_sales_price AS price, cs_item_sk AS item, cs_sold_time_sk AS time
    FROM catalog_sales JOIN date_dim ON d_date_sk = cs_sold_date_sk WHERE d_moy = 11 AND d_year = 1999
    UNION ALL
    SELECT ss_ext_sales_price AS price, ss_item_sk AS item, ss_sold_time_sk AS time
    FROM store_sales JOIN date_dim ON d_date_sk = ss_sold_date_sk WHERE d_moy = 11 AND d_year = 1999
) AS sold
JOIN item ON item = i_item_sk
JOIN time_dim ON time = t_time_sk
WHERE i_manager_id = 1 AND (t_meal_time = 'breakfast' OR t_meal_time = 'dinner')
GROUP BY i_brand, i_brand_id, t_hour, t_minute
ORDER BY total DESC NULLS FIRST, brand_id, t_hour, t_minute
