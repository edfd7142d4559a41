-- Web payments of a year by category and class, with totals, ranked within each level.
SELECT SUM(ws_net_paid) AS total, i_category, i_class, GROUPING(i_category) + GROUPING(i_class) AS level,
       RANK() OVER (PARTITION BY GROUPING(i_category) + GROUPING(i_class), CASE WHEN GROUPING(i_class) = 0 THEN i_category END
                    ORDER BY SUM(ws_net_paid) DESC) AS rank_within_parent
FROM web_sales, date_dim, item
WHERE d_month_seq BETWEEN 1200 AND 1211 AND d_date_sk = ws_sold_date_sk AND i_item_sk = ws_item_sk
GROUP BY ROLLUP (i_category, i_class)
ORDER BY level DESC, i_category NULLS FIRST, rank_within_parent, i_class NULLS FIRST
LIMIT 100
