-- Profit of the best states and their counties, with totals, ranked within each level.
WITH best AS (
    SELECT state FROM (
        SELECT s_state AS state, RANK() OVER (PARTITION BY s_state ORDER BY SUM(ss_net_profit) DESC) AS ranking
        FROM store_sales, store, date_dim
        WHERE d_month_seq BETWEEN 1200 AND 1211 AND d_date_sk = ss_sold_date_sk AND s_store_sk = ss_store_sk
        GROUP BY s_state
    ) AS ranked
    WHERE ranking <= 5
)
SELECT SUM(ss_net_profit) AS total, s_state, s_county, GROUPING(s_state) + GROUPING(s_county) AS level,
       RANK() OVER (PARTITION BY GROUPING(s_state) + GROUPING(s_county), CASE WHEN GROUPING(s_county) = 0 THEN s_state END
                    ORDER BY SUM(ss_net_profit) DESC) AS rank_within_parent
FROM store_sales
JOIN date_dim ON d_date_sk = ss_sold_date_sk
JOIN store ON s_store_sk = ss_store_sk
WHERE d_month_seq BETWEEN 1200 AND 1211 AND s_state IN (SELECT state FROM best)
GROUP BY ROLLUP (s_state, s_county)
ORDER BY level DESC, s_state NULLS FIRST, rank_within_parent, s_county NULLS FIRST
LIMIT 100
