-- Customers of stores in their own zip code, born abroad, who paid much for returned items of one colour.
WITH paid AS (
    SELECT c_last_name, c_first_name, s_store_name, i_color, ca_state, s_state, i_current_price, i_manager_id, i_units, i_size,
           SUM(ss_net_paid) AS amount
    FROM store_sales
    JOIN store_returns ON ss_ticket_number = sr_ticket_number AND ss_item_sk = sr_item_sk
    JOIN customer ON ss_customer_sk = c_customer_sk
    JOIN item ON ss_item_sk = i_item_sk
    JOIN store ON ss_store_sk = s_store_sk
    JOIN customer_address ON c_current_addr_sk = ca_address_sk AND s_zip = ca_zip
    WHERE c_birth_country <> UPPER(ca_country) AND s_market_id = 8
    GROUP BY c_last_name, c_first_name, s_store_name, i_color, ca_state, s_state, i_current_price, i_manager_id, i_units, i_size
)
SELECT c_last_name, c_first_name, s_store_name, SUM(amount) AS paid
FROM paid
WHERE i_color = 'peach'
GROUP BY c_last_name, c_first_name, s_store_name
HAVING SUM(amount) > (SELECT 0.05 * AVG(amount) FROM paid)
ORDER BY c_last_name, c_first_name, s_store_name
