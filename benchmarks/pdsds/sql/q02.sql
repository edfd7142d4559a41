-- How web and catalog sales of each weekday in 2001 compare with those of the same week a year later.
WITH sold AS (
    SELECT ws_sold_date_sk AS day, ws_ext_sales_price AS price FROM web_sales
    UNION ALL
    SELECT cs_sold_date_sk AS day, cs_ext_sales_price AS price FROM catalog_sales
), weeks AS (
    SELECT d_week_seq AS week,
           SUM(CASE WHEN d_day_name = 'Sunday' THEN price END) AS sun,
           SUM(CASE WHEN d_day_name = 'Monday' THEN price END) AS mon,
           SUM(CASE WHEN d_day_name = 'Tuesday' THEN price END) AS tue,
           SUM(CASE WHEN d_day_name = 'Wednesday' THEN price END) AS wed,
           SUM(CASE WHEN d_day_name = 'Thursday' THEN price END) AS thu,
           SUM(CASE WHEN d_day_name = 'Friday' THEN price END) AS fri,
           SUM(CASE WHEN d_day_name = 'Saturday' THEN price END) AS sat
    FROM sold JOIN date_dim ON d_date_sk = day
    GROUP BY d_week_seq
), this_year AS (
    SELECT week AS w1, sun AS sun1, mon AS mon1, tue AS tue1, wed AS wed1, thu AS thu1, fri AS fri1, sat AS sat1
    FROM weeks JOIN date_dim ON d_week_seq = week
    WHERE d_year = 2001
), next_year AS (
    SELECT week - 53 AS w2, sun AS sun2, mon AS mon2, tue AS tue2, wed AS wed2, thu AS thu2, fri AS fri2, sat AS sat2
    FROM weeks JOIN date_dim ON d_week_seq = week
    WHERE d_year = 2002
)
SELECT w1 AS week, ROUND(sun1 / sun2, 2) AS sun, ROUND(mon1 / mon2, 2) AS mon, ROUND(tue1 / tue2, 2) AS tue,
       ROUND(wed1 / wed2, 2) AS wed, ROUND(thu1 / thu2, 2) AS thu, ROUND(fri1 / fri2, 2) AS fri, ROUND(sat1 / sat2, 2) AS sat
FROM this_year JOIN next_year ON w1 = w2
ORDER BY week
