-- Customers in Georgia who returned web orders of 2002 worth over 1.2 times their state's average.
WITH returned AS (
    SELECT wr_returning_customer_sk AS customer, ca_state AS state, SUM(wr_return_amt) AS total
    FROM web_returns
    JOIN date_dim ON wr_returned_date_sk = d_date_sk
    JOIN customer_address ON wr_returning_addr_sk = ca_address_sk
    WHERE d_year = 2002
    GROUP BY wr_returning_customer_sk, ca_state
), usual AS (
    SELECT state AS usual_state, AVG(total) * 1.2 AS much FROM returned GROUP BY state
)
SELECT c_customer_id, c_salutation, c_first_name, c_last_name, c_preferred_cust_flag, c_birth_day, c_birth_month,
       c_birth_year, c_birth_country, c_login, c_email_address, c_last_review_date_sk, total
FROM returned
JOIN usual ON state = usual_state
JOIN customer ON customer = c_customer_sk
JOIN customer_address ON c_current_addr_sk = ca_address_sk
WHERE total > much AND ca_state = 'GA'
ORDER BY c_customer_id, c_salutation NULLS FIRST, c_first_name NULLS FIRST, c_last_name NULLS FIRST, total
LIMIT 100
