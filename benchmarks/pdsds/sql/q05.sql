-- Sales, returns and profit of two weeks in 2000 for each outlet of each channel, with totals.
WITH of_stores AS (
    SELECT s_store_id AS outlet, SUM(price) AS sales, SUM(back) AS returned, SUM(profit) - SUM(loss) AS profit
    FROM (
        SELECT ss_store_sk AS place, ss_sold_date_sk AS day, ss_ext_sales_price AS price, ss_net_profit AS profit,
               CAST(0 AS DECIMAL(7, 2)) AS back, CAST(0 AS DECIMAL(7, 2)) AS loss
        FROM store_sales
        UNION ALL
        SELECT sr_store_sk AS place, sr_returned_date_sk AS day, CAST(0 AS DECIMAL(7, 2)) AS price,
               CAST(0 AS DECIMAL(7, 2)) AS profit, sr_return_amt AS back, sr_net_loss AS loss
        FROM store_returns
    ) AS moves
    JOIN date_dim ON day = d_date_sk
    JOIN store ON place = s_store_sk
    WHERE d_date BETWEEN DATE '2000-08-23' AND DATE '2000-09-06'
    GROUP BY s_store_id
), of_catalogs AS (
    SELECT cp_catalog_page_id AS outlet, SUM(price) AS sales, SUM(back) AS returned, SUM(profit) - SUM(loss) AS profit
    FROM (
        SELECT cs_catalog_page_sk AS place, cs_sold_date_sk AS day, cs_ext_sales_price AS price, cs_net_profit AS profit,
               CAST(0 AS DECIMAL(7, 2)) AS back, CAST(0 AS DECIMAL(7, 2)) AS loss
        FROM catalog_sales
        UNION ALL
        SELECT cr_catalog_page_sk AS place, cr_returned_date_sk AS day, CAST(0 AS DECIMAL(7, 2)) AS price,
               CAST(0 AS DECIMAL(7, 2)) AS profit, cr_return_amount AS back, cr_net_loss AS loss
        FROM catalog_returns
    ) AS moves
    JOIN date_dim ON day = d_date_sk
    JOIN catalog_page ON place = cp_catalog_page_sk
    WHERE d_date BETWEEN DATE '2000-08-23' AND DATE '2000-09-06'
    GROUP BY cp_catalog_page_id
), of_sites AS (
    SELECT web_site_id AS outlet, SUM(price) AS sales, SUM(back) AS returned, SUM(profit) - SUM(loss) AS profit
    FROM (
        SELECT ws_web_site_sk AS place, ws_sold_date_sk AS day, ws_ext_sales_price AS price, ws_net_profit AS profit,
               CAST(0 AS DECIMAL(7, 2)) AS back, CAST(0 AS DECIMAL(7, 2)) AS loss
        FROM web_sales
        UNION ALL
        SELECT ws_web_site_sk AS place, wr_returned_date_sk AS day, CAST(0 AS DECIMAL(7, 2)) AS price,
               CAST(0 AS DECIMAL(7, 2)) AS profit, wr_return_amt AS back, wr_net_loss AS loss
        FROM web_returns LEFT JOIN web_sales ON wr_item_sk = ws_item_sk AND wr_order_number = ws_order_number
    ) AS moves
    JOIN date_dim ON day = d_date_sk
    JOIN web_site ON place = web_site_sk
    WHERE d_date BETWEEN DATE '2000-08-23' AND DATE '2000-09-06'
    GROUP BY web_site_id
)
SELECT channel, id, SUM(sales) AS sales, SUM(returned) AS returned, SUM(profit) AS profit
FROM (
    SELECT 'store channel' AS channel, CONCAT('store', outlet) AS id, sales, returned, profit FROM of_stores
    UNION ALL
    SELECT 'catalog channel' AS channel, CONCAT('catalog_page', outlet) AS id, sales, returned, profit FROM of_catalogs
    UNION ALL
    SELECT 'web channel' AS channel, CONCAT('web_site', outlet) AS id, sales, returned, profit FROM of_sites
) AS every
GROUP BY ROLLUP (channel, id)
ORDER BY channel NULLS FIRST, id NULLS FIRST
LIMIT 100
