-- Catalog orders shipped to Georgia from more than one warehouse, of which nothing came back.
SELECT COUNT(DISTINCT cs_order_number) AS orders, SUM(cs_ext_ship_cost) AS shipping, SUM(cs_net_profit) AS profit
FROM catalog_sales AS cs1
JOIN date_dim ON cs1.cs_ship_date_sk = d_date_sk
JOIN customer_address ON cs1.cs_ship_addr_sk = ca_address_sk
JOIN call_center ON cs1.cs_call_center_sk = cc_call_center_sk
WHERE d_date BETWEEN DATE '2002-02-01' AND DATE '2002-04-02' AND ca_state = 'GA' AND cc_county = 'Williamson County'
  AND EXISTS (SELECT 1 FROM catalog_sales AS cs2
              WHERE cs1.cs_order_number = cs2.cs_order_number AND cs1.cs_warehouse_sk <> cs2.cs_warehouse_sk)
  AND NOT EXISTS (SELECT 1 FROM catalog_returns AS cr1 WHERE cs1.cs_order_number = cr1.cr_order_number)
