-- What customers really paid when something came back for one reason.
SELECT ss_customer_sk, SUM(paid) AS total
FROM (
    SELECT ss_item_sk, ss_ticket_number, ss_customer_sk,
           CASE WHEN sr_return_quantity IS NOT NULL THEN (ss_quantity - sr_return_quantity) * ss_sales_price
                ELSE ss_quantity * ss_sales_price END AS paid
    FROM store_sales
    LEFT JOIN store_returns ON sr_item_sk = ss_item_sk AND sr_ticket_number = ss_ticket_number
    JOIN reason ON sr_reason_sk = r_reason_sk
    WHERE r_reason_desc = 'reason 28'
) AS kept
GROUP BY ss_customer_sk
ORDER BY total NULLS FIRST, ss_customer_sk NULLS FIRST
LIMIT 100
