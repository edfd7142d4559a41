-- Discounts on the web on items of one manufacturer that exceed 1.3 times the item's average of those months.
WITH sold AS (
    SELECT ws_item_sk AS item, ws_ext_discount_amt AS discount
    FROM web_sales JOIN date_dim ON d_date_sk = ws_sold_date_sk
    WHERE d_date BETWEEN DATE '2000-01-27' AND DATE '2000-04-26'
), usual AS (
    SELECT item AS usual_item, 1.3 * AVG(discount) AS much FROM sold GROUP BY item
)
SELECT SUM(discount) AS excess
FROM sold JOIN item ON i_item_sk = item JOIN usual ON usual_item = item
WHERE i_manufact_id = 350 AND discount > much
ORDER BY SUM(discount)
LIMIT 100
