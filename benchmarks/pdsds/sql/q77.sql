-- Sales, returns and profit of a month for each outlet of each channel, with totals.
WITH month AS (
    SELECT d_date_sk AS day FROM date_dim WHERE d_date BETWEEN DATE '2000-08-23' AND DATE '2000-09-22'
), ss AS (
    SELECT ss_store_sk AS place, SUM(ss_ext_sales_price) AS sales, SUM(ss_net_profit) AS profit
    FROM store_sales JOIN month ON ss_sold_date_sk = day WHERE ss_store_sk IS NOT NULL GROUP BY ss_store_sk
), sr AS (
    SELECT sr_store_sk AS place, SUM(sr_return_amt) AS returned, SUM(sr_net_loss) AS loss
    FROM store_returns JOIN month ON sr_returned_date_sk = day WHERE sr_store_sk IS NOT NULL GROUP BY sr_store_sk
), cs AS (
    SELECT cs_call_center_sk AS place, SUM(cs_ext_sales_price) AS sales, SUM(cs_net_profit) AS profit
    FROM catalog_sales JOIN month ON cs_sold_date_sk = day GROUP BY cs_call_center_sk
), cr AS (
    SELECT cr_call_center_sk AS back_place, SUM(cr_return_amount) AS returned, SUM(cr_net_loss) AS loss
    FROM catalog_returns JOIN month ON cr_returned_date_sk = day GROUP BY cr_call_center_sk
), ws AS (
    SELECT ws_web_page_sk AS place, SUM(ws_ext_sales_price) AS sales, SUM(ws_net_profit) AS profit
    FROM web_sales JOIN month ON ws_sold_date_sk = day WHERE ws_web_page_sk IS NOT NULL GROUP BY ws_web_page_sk
), wr AS (
    SELECT wr_web_page_sk AS place, SUM(wr_return_amt) AS returned, SUM(wr_net_loss) AS loss
    FROM web_returns JOIN month ON wr_returned_date_sk = day WHERE wr_web_page_sk IS NOT NULL GROUP BY wr_web_page_sk
)
SELECT channel, id, SUM(sales) AS sales, SUM(returned) AS returned, SUM(profit) AS profit
FROM (
    SELECT 'store channel' AS channel, ss.place AS id, sales, COALESCE(returned, 0) AS returned,
           profit - COALESCE(loss, 0) AS profit
    FROM ss LEFT JOIN sr ON ss.place = sr.place
    UNION ALL
    SELECT 'catalog channel' AS channel, place AS id, sales, returned, profit - loss AS profit FROM cs CROSS JOIN cr
    UNION ALL
    SELECT 'web channel' AS channel, ws.place AS id, sales, COALESCE(returned, 0) AS returned,
           profit - COALESCE(loss, 0) AS profit
    FROM ws LEFT JOIN wr ON ws.place = wr.place
) AS every
GROUP BY ROLLUP (channel, id)
ORDER BY channel NULLS FIRST, id NULLS FIRST, returned DESC
LIMIT 100
