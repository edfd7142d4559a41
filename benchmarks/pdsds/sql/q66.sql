-- Monthly sales of 2001 by warehouse, web and catalog together, sold by day and shipped by two carriers.
WITH sold AS (
    SELECT ws_warehouse_sk AS place, ws_sold_date_sk AS day, ws_sold_time_sk AS time, ws_ship_mode_sk AS mode,
           ws_ext_sales_price * ws_quantity AS sales, ws_net_paid * ws_quantity AS net
    FROM web_sales
    UNION ALL
    SELECT cs_warehouse_sk AS place, cs_sold_date_sk AS day, cs_sold_time_sk AS time, cs_ship_mode_sk AS mode,
           cs_sales_price * cs_quantity AS sales, cs_net_paid_inc_tax * cs_quantity AS net
    FROM catalog_sales
)
SELECT w_warehouse_name, w_warehouse_sq_ft, w_city, w_county, w_state, w_country, 'DHL,BARIAN' AS carriers, d_year AS year,
       SUM(CASE WHEN d_moy = 1 THEN sales ELSE 0 END) AS jan, SUM(CASE WHEN d_moy = 2 THEN sales ELSE 0 END) AS feb,
       SUM(CASE WHEN d_moy = 3 THEN sales ELSE 0 END) AS mar, SUM(CASE WHEN d_moy = 4 THEN sales ELSE 0 END) AS apr,
       SUM(CASE WHEN d_moy = 5 THEN sales ELSE 0 END) AS may, SUM(CASE WHEN d_moy = 6 THEN sales ELSE 0 END) AS jun,
       SUM(CASE WHEN d_moy = 7 THEN sales ELSE 0 END) AS jul, SUM(CASE WHEN d_moy = 8 THEN sales ELSE 0 END) AS aug,
       SUM(CASE WHEN d_moy = 9 THEN sales ELSE 0 END) AS sep, SUM(CASE WHEN d_moy = 10 THEN sales ELSE 0 END) AS oct,
       SUM(CASE WHEN d_moy = 11 THEN sales ELSE 0 END) AS nov, SUM(CASE WHEN d_moy = 12 THEN sales ELSE 0 END) AS dec,
       SUM(CASE WHEN d_moy = 1 THEN sales ELSE 0 END / w_warehouse_sq_ft) AS jan_a_foot,
       SUM(CASE WHEN d_moy = 6 THEN sales ELSE 0 END / w_warehouse_sq_ft) AS jun_a_foot,
       SUM(CASE WHEN d_moy = 12 THEN sales ELSE 0 END / w_warehouse_sq_ft) AS dec_a_foot,
       SUM(CASE WHEN d_moy = 1 THEN net ELSE 0 END) AS jan_net, SUM(CASE WHEN d_moy = 2 THEN net ELSE 0 END) AS feb_net,
       SUM(CASE WHEN d_moy = 3 THEN net ELSE 0 END) AS mar_net, SUM(CASE WHEN d_moy = 4 THEN net ELSE 0 END) AS apr_net,
       SUM(CASE WHEN d_moy = 5 THEN net ELSE 0 END) AS may_net, SUM(CASE WHEN d_moy = 6 THEN net ELSE 0 END) AS jun_net,
       SUM(CASE WHEN d_moy = 7 THEN net ELSE 0 END) AS jul_net, SUM(CASE WHEN d_moy = 8 THEN net ELSE 0 END) AS aug_net,
       SUM(CASE WHEN d_moy = 9 THEN net ELSE 0 END) AS sep_net, SUM(CASE WHEN d_moy = 10 THEN net ELSE 0 END) AS oct_net,
       SUM(CASE WHEN d_moy = 11 THEN net ELSE 0 END) AS nov_net, SUM(CASE WHEN d_moy = 12 THEN net ELSE 0 END) AS dec_net
FROM sold
JOIN warehouse ON place = w_warehouse_sk
JOIN date_dim ON day = d_date_sk
JOIN time_dim ON time = t_time_sk
JOIN ship_mode ON mode = sm_ship_mode_sk
WHERE d_year = 2001 AND t_time BETWEEN 30838 AND 59638 AND sm_carrier IN ('DHL', 'BARIAN')
GROUP BY w_warehouse_name, w_warehouse_sq_ft, w_city, w_county, w_state, w_country, d_year
ORDER BY w_warehouse_name NULLS FIRST
LIMIT 100
