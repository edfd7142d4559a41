-- Web orders shipped to Illinois from more than one warehouse, of which nothing came back.
WITH several AS (
    SELECT ws_order_number AS several_order FROM web_sales
    GROUP BY ws_order_number
    HAVING COUNT(DISTINCT ws_warehouse_sk) > 1
)
SELECT COUNT(DISTINCT ws_order_number) AS orders, SUM(ws_ext_ship_cost) AS shipping, SUM(ws_net_profit) AS profit
FROM web_sales AS ws1
JOIN date_dim ON ws1.ws_ship_date_sk = d_date_sk
JOIN customer_address ON ws1.ws_ship_addr_sk = ca_address_sk
JOIN web_site ON ws1.ws_web_site_sk = web_site_sk
WHERE d_date BETWEEN DATE '1999-02-01' AND DATE '1999-04-02' AND ca_state = 'IL' AND web_company_name = 'pri'
  AND ws1.ws_warehouse_sk IS NOT NULL
  AND ws_order_number IN (SELECT several_order FROM several)
  AND NOT EXISTS (SELECT 1 FROM web_returns AS wr1 WHERE ws1.ws_order_number = wr1.wr_order_number)
ORDER BY COUNT(DISTINCT ws_order_number)
LIMIT 100
