-- Sales of each store and weekday compared with those of the week a year later.
WITH weeks AS (
    SELECT d_week_seq AS week, ss_store_sk AS place,
           SUM(CASE WHEN d_day_name = 'Sunday' THEN ss_sales_price END) AS sun,
           SUM(CASE WHEN d_day_name = 'Monday' THEN ss_sales_price END) AS mon,
           SUM(CASE WHEN d_day_name = 'Tuesday' THEN ss_sales_price END) AS tue,
           SUM(CASE WHEN d_day_name = 'Wednesday' THEN ss_sales_price END) AS wed,
           SUM(CASE WHEN d_day_name = 'Thursday' THEN ss_sales_price END) AS thu,
           SUM(CASE WHEN d_day_name = 'Friday' THEN ss_sales_price END) AS fri,
           SUM(CASE WHEN d_day_name = 'Saturday' THEN ss_sales_price END) AS sat
    FROM store_sales JOIN date_dim ON d_date_sk = ss_sold_date_sk
    GROUP BY d_week_seq, ss_store_sk
), this_year AS (
    SELECT s_store_name, s_store_id, weeks.* FROM weeks
    JOIN store ON place = s_store_sk
    JOIN (SELECT DISTINCT d_week_seq FROM date_dim WHERE d_month_seq BETWEEN 1212 AND 1223) AS d ON d_week_seq = week
), next_year AS (
    SELECT s_store_id, weeks.* FROM weeks
    JOIN store ON place = s_store_sk
    JOIN (SELECT DISTINCT d_week_seq FROM date_dim WHERE d_month_seq BETWEEN 1224 AND 1235) AS d ON d_week_seq = week
)
SELECT y.s_store_name, y.s_store_id, y.week, y.sun / x.sun AS sun, y.mon / x.mon AS mon, y.tue / x.tue AS tue,
       y.wed / x.wed AS wed, y.thu / x.thu AS thu, y.fri / x.fri AS fri, y.sat / x.sat AS sat
FROM this_year AS y JOIN next_year AS x ON y.s_store_id = x.s_store_id AND y.week = x.week - 52
ORDER BY y.s_store_name, y.s_store_id, y.week, sun, mon
LIMIT 100
