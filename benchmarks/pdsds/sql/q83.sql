-- Quantities that came back in three weeks of 2000 of items returned in all three channels.
WITH days AS (
    SELECT d_date_sk AS day FROM date_dim
    WHERE d_week_seq IN (SELECT d_week_seq FROM date_dim
                         WHERE d_date IN (DATE '2000-06-30', DATE '2000-09-27', DATE '2000-11-17'))
), sr AS (
    SELECT i_item_id AS item, SUM(sr_return_quantity) AS qty
    FROM store_returns JOIN item ON sr_item_sk = i_item_sk JOIN days ON sr_returned_date_sk = day GROUP BY i_item_id
), cr AS (
    SELECT i_item_id AS item, SUM(cr_return_quantity) AS qty
    FROM catalog_returns JOIN item ON cr_item_sk = i_item_sk JOIN days ON cr_returned_date_sk = day GROUP BY i_item_id
), wr AS (
    SELECT i_item_id AS item, SUM(wr_return_quantity) AS qty
    FROM web_returns JOIN item ON wr_item_sk = i_item_sk JOIN days ON wr_returned_date_sk = day GROUP BY i_item_id
)
SELECT sr.item, sr.qty AS sr_qty, sr.qty * 1.0 / (sr.qty + cr.qty + wr.qty) / 3.0 * 100 AS sr_dev,
       cr.qty AS cr_qty, cr.qty * 1.0 / (sr.qty + cr.qty + wr.qty) / 3.0 * 100 AS cr_dev,
       wr.qty AS wr_qty, wr.qty * 1.0 / (sr.qty + cr.qty + wr.qty) / 3.0 * 100 AS wr_dev,
       (sr.qty + cr.qty + wr.qty) / 3.0 AS average
FROM sr JOIN cr ON sr.item = cr.item JOIN wr ON sr.item = wr.item
ORDER BY sr.item, sr_qty
LIMIT 100
