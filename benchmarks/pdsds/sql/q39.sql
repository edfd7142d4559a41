-- Items whose stock varies much in January and February 2001, by warehouse.
WITH spread AS (
    SELECT w_warehouse_sk AS warehouse, i_item_sk AS item, d_moy AS month, STDDEV_SAMP(inv_quantity_on_hand) AS dev,
           AVG(inv_quantity_on_hand) AS mean
    FROM inventory
    JOIN item ON inv_item_sk = i_item_sk
    JOIN warehouse ON inv_warehouse_sk = w_warehouse_sk
    JOIN date_dim ON inv_date_sk = d_date_sk
    WHERE d_year = 2001
    GROUP BY w_warehouse_sk, i_item_sk, d_moy
), wild AS (
    SELECT warehouse, item, month, mean, CASE mean WHEN 0 THEN NULL ELSE dev / mean END AS cov
    FROM spread
    WHERE CASE mean WHEN 0 THEN 0 ELSE dev / mean END > 1
)
SELECT w1.warehouse, w1.item, w1.month, w1.mean, w1.cov, w2.month AS next_month, w2.mean AS next_mean, w2.cov AS next_cov
FROM wild AS w1 JOIN wild AS w2 ON w1.item = w2.item AND w1.warehouse = w2.warehouse
WHERE w1.month = 1 AND w2.month = 2
ORDER BY w1.warehouse, w1.item
