-- Average stock over a year by product, brand, class and category, with the totals of every level.
SELECT i_product_name, i_brand, i_class, i_category, AVG(inv_quantity_on_hand) AS on_hand
FROM inventory, date_dim, item
WHERE inv_date_sk = d_date_sk AND inv_item_sk = i_item_sk AND d_month_seq BETWEEN 1200 AND 1211
GROUP BY ROLLUP (i_product_name, i_brand, i_class, i_category)
ORDER BY on_hand NULLS FIRST, i_product_name NULLS FIRST, i_brand NULLS FIRST, i_class NULLS FIRST, i_category NULLS FIRST
LIMIT 100
