-- Counties where web sales grew faster than store sales, over two quarters of 2000 in a row.
WITH ss AS (
    SELECT ca_county AS county, d_qoy AS quarter, SUM(ss_ext_sales_price) AS sales
    FROM store_sales JOIN date_dim ON ss_sold_date_sk = d_date_sk JOIN customer_address ON ss_addr_sk = ca_address_sk
    WHERE d_year = 2000
    GROUP BY ca_county, d_qoy
), ws AS (
    SELECT ca_county AS county, d_qoy AS quarter, SUM(ws_ext_sales_price) AS sales
    FROM web_sales JOIN date_dim ON ws_sold_date_sk = d_date_sk JOIN customer_address ON ws_bill_addr_sk = ca_address_sk
    WHERE d_year = 2000
    GROUP BY ca_county, d_qoy
)
SELECT ss1.county, 2000 AS year, ws2.sales / ws1.sales AS web_q1_q2, ss2.sales / ss1.sales AS store_q1_q2,
       ws3.sales / ws2.sales AS web_q2_q3, ss3.sales / ss2.sales AS store_q2_q3
FROM ss AS ss1, ss AS ss2, ss AS ss3, ws AS ws1, ws AS ws2, ws AS ws3
WHERE ss2.county = ss1.county AND ss3.county = ss1.county AND ws1.county = ss1.county AND ws2.county = ss1.county
  AND ws3.county = ss1.county AND ss1.quarter = 1 AND ss2.quarter = 2 AND ss3.quarter = 3
  AND ws1.quarter = 1 AND ws2.quarter = 2 AND ws3.quarter = 3
  AND CASE WHEN ws1.sales > 0 THEN ws2.sales / ws1.sales END > CASE WHEN ss1.sales > 0 THEN ss2.sales / ss1.sales END
  AND CASE WHEN ws2.sales > 0 THEN ws3.sales / ws2.sales END > CASE WHEN ss2.sales > 0 THEN ss3.sales / ss2.sales END
ORDER BY ss1.county
