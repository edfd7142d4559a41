-- Manufacturers whose quarterly sales of some kinds of items differ from their average.
WITH quarterly AS (
    SELECT i_manufact_id, d_qoy, SUM(ss_sales_price) AS sales
    FROM store_sales
    JOIN item ON ss_item_sk = i_item_sk
    JOIN date_dim ON ss_sold_date_sk = d_date_sk
    JOIN store ON ss_store_sk = s_store_sk
    WHERE d_month_seq BETWEEN 1200 AND 1211
      AND ((i_category IN ('Books', 'Children', 'Electronics')
            AND i_class IN ('personal', 'portable', 'reference', 'self-help')
            AND i_brand IN ('scholaramalgamalg #14', 'scholaramalgamalg #7', 'exportiunivamalg #9', 'scholaramalgamalg #9'))
           OR (i_category IN ('Women', 'Music', 'Men') AND i_class IN ('accessories', 'classical', 'fragrances', 'pants')
               AND i_brand IN ('amalgimporto #1', 'edu packscholar #1', 'exportiimporto #1', 'importoamalg #1')))
    GROUP BY i_manufact_id, d_qoy
), averages AS (
    SELECT i_manufact_id, sales, AVG(sales) OVER (PARTITION BY i_manufact_id) AS average FROM quarterly
)
SELECT i_manufact_id, sales, average
FROM averages
WHERE CASE WHEN average > 0 THEN ABS(sales - average) / average END > 0.1
ORDER BY average, sales, i_manufact_id
LIMIT 100
