-- Days on which the running web revenue of an item was ahead of that of the stores.
WITH web AS (
    SELECT ws_item_sk AS item, d_date AS day,
           SUM(SUM(ws_sales_price)) OVER (PARTITION BY ws_item_sk ORDER BY d_date
                                          ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS running
    FROM web_sales JOIN date_dim ON ws_sold_date_sk = d_date_sk
    WHERE d_month_seq BETWEEN 1200 AND 1211 AND ws_item_sk IS NOT NULL
    GROUP BY ws_item_sk, d_date
), stores AS (
    SELECT ss_item_sk AS item, d_date AS day,
           SUM(SUM(ss_sales_price)) OVER (PARTITION BY ss_item_sk ORDER BY d_date
                                          ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS running
    FROM store_sales JOIN date_dim ON ss_sold_date_sk = d_date_sk
    WHERE d_month_seq BETWEEN 1200 AND 1211 AND ss_item_sk IS NOT NULL
    GROUP BY ss_item_sk, d_date
), merged AS (
    SELECT COALESCE(web.item, stores.item) AS item_sk, COALESCE(web.day, stores.day) AS d, web.running AS web_sales,
           stores.running AS store_sales
    FROM web FULL JOIN stores ON web.item = stores.item AND web.day = stores.day
), ahead AS (
    SELECT item_sk, d, web_sales, store_sales,
           MAX(web_sales) OVER (PARTITION BY item_sk ORDER BY d ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS web_most,
           MAX(store_sales) OVER (PARTITION BY item_sk ORDER BY d ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
               AS store_most
    FROM merged
)
SELECT * FROM ahead
WHERE web_most > store_most
ORDER BY item_sk, d
LIMIT 100
