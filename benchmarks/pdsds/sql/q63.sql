-- Managers whose monthly sales of some kinds of items differ from their average.
SELECT *
FROM (
    SELECT i_manager_id, SUM(ss_sales_price) AS sales, AVG(SUM(ss_sales_price)) OVER (PARTITION BY i_manager_id) AS average
    FROM store_sales, item, date_dim, store
    WHERE ss_item_sk = i_item_sk AND ss_sold_date_sk = d_date_sk AND ss_store_sk = s_store_sk
      AND d_month_seq BETWEEN 1200 AND 1211
      AND ((i_category IN ('Books', 'Children', 'Electronics')
            AND i_class IN ('personal', 'portable', 'reference', 'self-help')
            AND i_brand IN ('scholaramalgamalg #14', 'scholaramalgamalg #7', 'exportiunivamalg #9', 'scholaramalgamalg #9'))
           OR (i_category IN ('Women', 'Music', 'Men') AND i_class IN ('accessories', 'classical', 'fragrances', 'pants')
               AND i_brand IN ('amalgimporto #1', 'edu packscholar #1', 'exportiimporto #1', 'importoamalg #1')))
    GROUP BY i_manager_id, d_moy
) AS monthly
WHERE CASE WHEN average > 0 THEN ABS(sales - average) / average END > 0.1
ORDER BY i_manager_id, average, sales
LIMIT 100
