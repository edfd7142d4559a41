-- Items whose revenue in a week was nearly the same in all three channels.
WITH week AS (
    SELECT d_date_sk AS day FROM date_dim
    WHERE d_week_seq = (SELECT d_week_seq FROM date_dim WHERE d_date = DATE '2000-01-03')
), ss AS (
    SELECT i_item_id AS item, SUM(ss_ext_sales_price) AS revenue
    FROM store_sales JOIN item ON ss_item_sk = i_item_sk JOIN week ON ss_sold_date_sk = day
    GROUP BY i_item_id
), cs AS (
    SELECT i_item_id AS item, SUM(cs_ext_sales_price) AS revenue
    FROM catalog_sales JOIN item ON cs_item_sk = i_item_sk JOIN week ON cs_sold_date_sk = day
    GROUP BY i_item_id
), ws AS (
    SELECT i_item_id AS item, SUM(ws_ext_sales_price) AS revenue
    FROM web_sales JOIN item ON ws_item_sk = i_item_sk JOIN week ON ws_sold_date_sk = day
    GROUP BY i_item_id
)
SELECT ss.item, ss.revenue AS store_revenue, ss.revenue / ((ss.revenue + cs.revenue + ws.revenue) / 3) * 100 AS store_share,
       cs.revenue AS catalog_revenue, cs.revenue / ((ss.revenue + cs.revenue + ws.revenue) / 3) * 100 AS catalog_share,
       ws.revenue AS web_revenue, ws.revenue / ((ss.revenue + cs.revenue + ws.revenue) / 3) * 100 AS web_share,
       (ss.revenue + cs.revenue + ws.revenue) / 3 AS average
FROM ss JOIN cs ON ss.item = cs.item JOIN ws ON ss.item = ws.item
WHERE ss.revenue BETWEEN 0.9 * cs.revenue AND 1.1 * cs.revenue AND ss.revenue BETWEEN 0.9 * ws.revenue AND 1.1 * ws.revenue
  AND cs.revenue BETWEEN 0.9 * ss.revenue AND 1.1 * ss.revenue AND cs.revenue BETWEEN 0.9 * ws.revenue AND 1.1 * ws.revenue
  AND ws.revenue BETWEEN 0.9 * ss.revenue AND 1.1 * ss.revenue AND ws.revenue BETWEEN 0.9 * cs.revenue AND 1.1 * cs.revenue
ORDER BY ss.item, store_revenue
LIMIT 100
