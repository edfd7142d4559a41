-- Profit of stores, in one quarter, whose zip code begins like one of a list where many preferred customers live.
WITH listed AS (
    SELECT SUBSTRING(ca_zip, 1, 5) AS zip FROM customer_address
    WHERE SUBSTRING(ca_zip, 1, 5) IN (
        '24128', '76232', '65084', '87816', '83926', '77556', '20548', '26231', '43848', '15126', '91137', '61265', '98294',
        '25782', '17920', '18426', '98235', '40081', '84093', '28577', '55565', '17183', '54601', '67897', '22752', '86284',
        '18376', '38607', '45200', '21756', '29741', '96765', '23932', '89360', '29839', '25989', '28898', '91068', '72550',
        '35709', '31904', '38605', '60150')
    INTERSECT
    SELECT SUBSTRING(ca_zip, 1, 5) AS zip
    FROM customer_address JOIN customer ON ca_address_sk = c_current_addr_sk
    WHERE c_preferred_cust_flag = 'Y'
    GROUP BY SUBSTRING(ca_zip, 1, 5)
    HAVING COUNT(*) > 10
)
SELECT s_store_name, SUM(ss_net_profit) AS profit
FROM store_sales
JOIN date_dim ON ss_sold_date_sk = d_date_sk
JOIN store ON ss_store_sk = s_store_sk
JOIN listed ON SUBSTRING(s_zip, 1, 2) = SUBSTRING(zip, 1, 2)
WHERE d_qoy = 2 AND d_year = 1998
GROUP BY s_store_name
ORDER BY s_store_name
LIMIT 100
