-- Items with the worst shares of returns in December 2001, by quantity or by money, in each channel.
WITH web AS (
    SELECT ws_item_sk AS item, SUM(COALESCE(wr_return_quantity, 0)) * 1.0 / SUM(COALESCE(ws_quantity, 0)) AS return_ratio,
           SUM(COALESCE(wr_return_amt, 0)) / SUM(COALESCE(ws_net_paid, 0)) AS currency_ratio
    FROM web_sales
    LEFT JOIN web_returns ON ws_order_number = wr_order_number AND ws_item_sk = wr_item_sk
    JOIN date_dim ON ws_sold_date_sk = d_date_sk
    WHERE wr_return_amt > 10000 AND ws_net_profit > 1 AND ws_net_paid > 0 AND ws_quantity > 0 AND d_year = 2001 AND d_moy = 12
    GROUP BY ws_item_sk
), cat AS (
    SELECT cs_item_sk AS item, SUM(COALESCE(cr_return_quantity, 0)) * 1.0 / SUM(COALESCE(cs_quantity, 0)) AS return_ratio,
           SUM(COALESCE(cr_return_amount, 0)) / SUM(COALESCE(cs_net_paid, 0)) AS currency_ratio
    FROM catalog_sales
    LEFT JOIN catalog_returns ON cs_order_number = cr_order_number AND cs_item_sk = cr_item_sk
    JOIN date_dim ON cs_sold_date_sk = d_date_sk
    WHERE cr_return_amount > 10000 AND cs_net_profit > 1 AND cs_net_paid > 0 AND cs_quantity > 0
      AND d_year = 2001 AND d_moy = 12
    GROUP BY cs_item_sk
), sto AS (
    SELECT ss_item_sk AS item, SUM(COALESCE(sr_return_quantity, 0)) * 1.0 / SUM(COALESCE(ss_quantity, 0)) AS return_ratio,
           SUM(COALESCE(sr_return_amt, 0)) / SUM(COALESCE(ss_net_paid, 0)) AS currency_ratio
    FROM store_sales
    LEFT JOIN store_returns ON ss_ticket_number = sr_ticket_number AND ss_item_sk = sr_item_sk
    JOIN date_dim ON ss_sold_date_sk = d_date_sk
    WHERE sr_return_amt > 10000 AND ss_net_profit > 1 AND ss_net_paid > 0 AND ss_quantity > 0 AND d_year = 2001 AND d_moy = 12
    GROUP BY ss_item_sk
), ranked AS (
    SELECT 'web' AS channel, item, return_ratio, RANK() OVER (ORDER BY return_ratio) AS return_rank,
           RANK() OVER (ORDER BY currency_ratio) AS currency_rank FROM web
    UNION
    SELECT 'catalog' AS channel, item, return_ratio, RANK() OVER (ORDER BY return_ratio) AS return_rank,
           RANK() OVER (ORDER BY currency_ratio) AS currency_rank FROM cat
    UNION
    SELECT 'store' AS channel, item, return_ratio, RANK() OVER (ORDER BY return_ratio) AS return_rank,
           RANK() OVER (ORDER BY currency_ratio) AS currency_rank FROM sto
)
SELECT channel, item, return_ratio, return_rank, currency_rank
FROM ranked
WHERE return_rank <= 10 OR currency_rank <= 10
ORDER BY channel, return_rank, currency_rank, item
LIMIT 100
