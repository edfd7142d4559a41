-- Margins of stores in Tennessee by category and class, with totals, ranked within each level.
WITH levels AS (
    SELECT i_category, i_class, GROUPING(i_category) + GROUPING(i_class) AS level, SUM(ss_net_profit) AS profit,
           SUM(ss_ext_sales_price) AS price
    FROM store_sales
    JOIN date_dim ON d_date_sk = ss_sold_date_sk
    JOIN item ON i_item_sk = ss_item_sk
    JOIN store ON s_store_sk = ss_store_sk
    WHERE d_year = 2001 AND s_state = 'TN'
    GROUP BY ROLLUP (i_category, i_class)
), margins AS (
    SELECT profit / price AS margin, i_category, i_class, level, CASE WHEN level = 0 THEN i_category END AS parent FROM levels
)
SELECT margin, i_category, i_class, level, RANK() OVER (PARTITION BY level, parent ORDER BY margin) AS rank_within_parent
FROM margins
ORDER BY level DESC, parent NULLS FIRST, rank_within_parent, i_category NULLS FIRST, i_class NULLS FIRST
LIMIT 100
