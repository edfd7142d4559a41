-- Averages of catalog sales to some women, by item and place, with the totals of every level.
SELECT i_item_id, ca_country, ca_state, ca_county, AVG(CAST(cs_quantity AS DECIMAL(12, 2))) AS quantity,
       AVG(CAST(cs_list_price AS DECIMAL(12, 2))) AS list_price, AVG(CAST(cs_coupon_amt AS DECIMAL(12, 2))) AS coupon,
       AVG(CAST(cs_sales_price AS DECIMAL(12, 2))) AS sales_price, AVG(CAST(cs_net_profit AS DECIMAL(12, 2))) AS profit,
       AVG(CAST(c_birth_year AS DECIMAL(12, 2))) AS birth_year, AVG(CAST(cd1.cd_dep_count AS DECIMAL(12, 2))) AS dependants
FROM catalog_sales
JOIN customer_demographics AS cd1 ON cs_bill_cdemo_sk = cd1.cd_demo_sk
JOIN customer ON cs_bill_customer_sk = c_customer_sk
JOIN customer_demographics AS cd2 ON c_current_cdemo_sk = cd2.cd_demo_sk
JOIN customer_address ON c_current_addr_sk = ca_address_sk
JOIN date_dim ON cs_sold_date_sk = d_date_sk
JOIN item ON cs_item_sk = i_item_sk
WHERE cd1.cd_gender = 'F' AND cd1.cd_education_status = 'Unknown' AND c_birth_month IN (1, 2, 6, 8, 9, 12)
  AND d_year = 1998 AND ca_state IN ('MS', 'IN', 'ND', 'OK', 'NM', 'VA')
GROUP BY ROLLUP (i_item_id, ca_country, ca_state, ca_county)
ORDER BY ca_country NULLS FIRST, ca_state NULLS FIRST, ca_county NULLS FIRST, i_item_id NULLS FIRST
LIMIT 100
