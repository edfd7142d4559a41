-- Categories of a manager by what stores sold of them in November 2000.
SELECT d_year, i_category_id, i_category, SUM(ss_ext_sales_price) AS total
FROM store_sales, date_dim, item
WHERE d_date_sk = ss_sold_date_sk AND ss_item_sk = i_item_sk AND i_manager_id = 1 AND d_moy = 11 AND d_year = 2000
GROUP BY d_year, i_category_id, i_category
ORDER BY SUM(ss_ext_sales_price) DESC, d_year, i_category_id, i_category
LIMIT 100
