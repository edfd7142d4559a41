-- Averages of store sales to single male college students by item and state, with totals.
SELECT i_item_id, s_state, GROUPING(s_state) AS all_states, AVG(ss_quantity) AS quantity, AVG(ss_list_price) AS list_price,
       AVG(ss_coupon_amt) AS coupon, AVG(ss_sales_price) AS sales_price
FROM store_sales
JOIN customer_demographics ON ss_cdemo_sk = cd_demo_sk
JOIN date_dim ON ss_sold_date_sk = d_date_sk
JOIN store ON ss_store_sk = s_store_sk
JOIN item ON ss_item_sk = i_item_sk
WHERE cd_gender = 'M' AND cd_marital_status = 'S' AND cd_education_status = 'College' AND d_year = 2002 AND s_state = 'TN'
GROUP BY ROLLUP (i_item_id, s_state)
ORDER BY i_item_id NULLS FIRST, s_state NULLS FIRST
LIMIT 100
