-- Customers of stores in Tennessee who returned, in 2000, over 1.2 times as much as the store's average customer.
WITH returned AS (
    SELECT sr_customer_sk AS customer, sr_store_sk AS store, SUM(sr_return_amt) AS total
    FROM store_returns JOIN date_dim ON sr_returned_date_sk = d_date_sk
    WHERE d_year = 2000
    GROUP BY sr_customer_sk, sr_store_sk
)
SELECT c_customer_id
FROM returned AS r
JOIN store ON s_store_sk = r.store
JOIN customer ON c_customer_sk = r.customer
WHERE s_state = 'TN'
  AND r.total > (SELECT AVG(peer.total) * 1.2 FROM returned AS peer WHERE peer.store = r.store)
ORDER BY c_customer_id
LIMIT 100
