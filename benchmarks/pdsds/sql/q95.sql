-- Web orders shipped to Illinois from more than one warehouse, of which something came back.
WITH several AS (
    SELECT a.ws_order_number AS order_number
    FROM web_sales AS a JOIN web_sales AS b ON a.ws_order_number = b.ws_order_number
    WHERE a.ws_warehouse_sk <> b.ws_warehouse_sk
)
SELECT COUNT(DISTINCT ws_order_number) AS orders, SUM(ws_ext_ship_cost) AS shipping, SUM(ws_net_profit) AS profit
FROM web_sales, date_dim, customer_address, web_site
WHERE d_date BETWEEN DATE '1999-02-01' AND DATE '1999-04-02' AND ws_ship_date_sk = d_date_sk
  AND ws_ship_addr_sk = ca_address_sk AND ca_state = 'IL' AND ws_web_site_sk = web_site_sk AND web_company_name = 'pri'
  AND ws_order_number IN (SELECT order_number FROM several)
  AND ws_order_number IN (SELECT wr_order_number FROM web_returns JOIN several ON wr_order_number = order_number)
