-- The ten best and ten worst items of a store by average profit, side by side.
WITH profits AS (
    SELECT ss_item_sk AS item, AVG(ss_net_profit) AS profit
    FROM store_sales
    WHERE ss_store_sk = 4
    GROUP BY ss_item_sk
    HAVING AVG(ss_net_profit) > (
        SELECT 0.9 * AVG(ss_net_profit) FROM store_sales WHERE ss_store_sk = 4 AND ss_addr_sk IS NULL)
), ranked AS (
    SELECT item, RANK() OVER (ORDER BY profit) AS worst, RANK() OVER (ORDER BY profit DESC) AS best FROM profits
)
SELECT a.worst AS rnk, i1.i_product_name AS best_performing, i2.i_product_name AS worst_performing
FROM ranked AS a
JOIN ranked AS b ON a.worst = b.best
JOIN item AS i1 ON i1.i_item_sk = a.item
JOIN item AS i2 ON i2.i_item_sk = b.item
WHERE a.worst < 11 AND b.best < 11
ORDER BY rnk, best_performing, worst_performing
LIMIT 100
