-- Web sales of a morning against those of an evening, to households of six, on pages of one length.
SELECT CASE WHEN evening = 0 THEN NULL ELSE CAST(morning AS DECIMAL(15, 4)) / CAST(evening AS DECIMAL(15, 4)) END AS ratio
FROM (SELECT COUNT(*) AS morning
      FROM web_sales
      JOIN household_demographics ON ws_ship_hdemo_sk = hd_demo_sk
      JOIN time_dim ON ws_sold_time_sk = t_time_sk
      JOIN web_page ON ws_web_page_sk = wp_web_page_sk
      WHERE t_hour BETWEEN 8 AND 9 AND hd_dep_count = 6 AND wp_char_count BETWEEN 5000 AND 5200) AS early,
     (SELECT COUNT(*) AS evening
      FROM web_sales
      JOIN household_demographics ON ws_ship_hdemo_sk = hd_demo_sk
      JOIN time_dim ON ws_sold_time_sk = t_time_sk
      JOIN web_page ON ws_web_page_sk = wp_web_page_sk
      WHERE t_hour BETWEEN 19 AND 20 AND hd_dep_count = 6 AND wp_char_count BETWEEN 5000 AND 5200) AS late
ORDER BY ratio
LIMIT 100
