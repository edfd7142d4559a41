-- Items that bring a store at most a tenth of its average item's revenue.
WITH revenues AS (
    SELECT ss_store_sk AS place, ss_item_sk AS item, SUM(ss_sales_price) AS revenue
    FROM store_sales JOIN date_dim ON ss_sold_date_sk = d_date_sk
    WHERE d_month_seq BETWEEN 1176 AND 1187
    GROUP BY ss_store_sk, ss_item_sk
), averages AS (
    SELECT place AS average_place, AVG(revenue) AS average FROM revenues GROUP BY place
)
SELECT s_store_name, i_item_desc, revenue, i_current_price, i_wholesale_cost, i_brand
FROM revenues
JOIN averages ON place = average_place
JOIN store ON s_store_sk = place
JOIN item ON i_item_sk = item
WHERE revenue <= 0.1 * average
ORDER BY s_store_name NULLS FIRST, i_item_desc NULLS FIRST, revenue, i_current_price, i_wholesale_cost, i_brand
LIMIT 100
