-- Stock of cheap items in each warehouse before and after a day, where it changed by less than half.
WITH stock AS (
    SELECT w_warehouse_name AS warehouse, i_item_id AS item,
           SUM(CASE WHEN d_date < DATE '2000-03-11' THEN inv_quantity_on_hand ELSE 0 END) AS before,
           SUM(CASE WHEN d_date >= DATE '2000-03-11' THEN inv_quantity_on_hand ELSE 0 END) AS after
    FROM inventory
    JOIN warehouse ON inv_warehouse_sk = w_warehouse_sk
    JOIN item ON inv_item_sk = i_item_sk
    JOIN date_dim ON inv_date_sk = d_date_sk
    WHERE i_current_price BETWEEN 0.99 AND 1.49 AND d_date BETWEEN DATE '2000-02-10' AND DATE '2000-04-10'
    GROUP BY w_warehouse_name, i_item_id
)
SELECT * FROM stock
WHERE before > 0 AND after * 1.0 / before BETWEEN 2.0 / 3.0 AND 3.0 / 2.0
ORDER BY warehouse NULLS FIRST, item
LIMIT 100
