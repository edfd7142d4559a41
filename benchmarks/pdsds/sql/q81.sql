-- Customers in Georgia who returned catalog orders of 2000 worth over 1.2 times their state's average.
WITH returned AS (
    SELECT cr_returning_customer_sk AS customer, ca_state AS state, SUM(cr_return_amt_inc_tax) AS total
    FROM catalog_returns, date_dim, customer_address
    WHERE cr_returned_date_sk = d_date_sk AND d_year = 2000 AND cr_returning_addr_sk = ca_address_sk
    GROUP BY cr_returning_customer_sk, ca_state
)
SELECT c_customer_id, c_salutation, c_first_name, c_last_name, ca_street_number, ca_street_name, ca_street_type,
       ca_suite_number, ca_city, ca_county, ca_state, ca_zip, ca_country, ca_gmt_offset, ca_location_type, total
FROM returned AS r
JOIN customer ON r.customer = c_customer_sk
JOIN customer_address ON ca_address_sk = c_current_addr_sk
WHERE r.total > (SELECT AVG(peer.total) * 1.2 FROM returned AS peer WHERE peer.state = r.state) AND ca_state = 'GA'
ORDER BY c_customer_id, c_salutation, c_first_name, c_last_name, total
LIMIT 100
