-- How many sales a store had in each half hour of a morning, to some households.
WITH sold AS (
    SELECT t_hour AS hour, t_minute AS minute
    FROM store_sales, household_demographics, time_dim, store
    WHERE ss_sold_time_sk = t_time_sk AND ss_hdemo_sk = hd_demo_sk AND ss_store_sk = s_store_sk AND s_store_name = 'ese'
      AND ((hd_dep_count = 4 AND hd_vehicle_count <= 6) OR (hd_dep_count = 2 AND hd_vehicle_count <= 4)
           OR (hd_dep_count = 0 AND hd_vehicle_count <= 2))
)
SELECT *
FROM (SELECT COUNT(*) AS h8_30_to_9 FROM sold WHERE hour = 8 AND minute >= 30) AS s1,
     (SELECT COUNT(*) AS h9_to_9_30 FROM sold WHERE hour = 9 AND minute < 30) AS s2,
     (SELECT COUNT(*) AS h9_30_to_10 FROM sold WHERE hour = 9 AND minute >= 30) AS s3,
     (SELECT COUNT(*) AS h10_to_10_30 FROM sold WHERE hour = 10 AND minute < 30) AS s4,
     (SELECT COUNT(*) AS h10_30_to_11 FROM sold WHERE hour = 10 AND minute >= 30) AS s5,
     (SELECT COUNT(*) AS h11_to_11_30 FROM sold WHERE hour = 11 AND minute < 30) AS s6,
     (SELECT COUNT(*) AS h11_30_to_12 FROM sold WHERE hour = 11 AND minute >= 30) AS s7,
     (SELECT COUNT(*) AS h12_to_12_30 FROM sold WHERE hour = 12 AND minute < 30) AS s8
