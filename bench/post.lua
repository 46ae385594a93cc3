-- Posts one order, the same 190 octets each time.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"sku":"A-1042","quantity":3,"customer":"c-000121","currency":"EUR","unitPrice":"19.90","note":"leave it at the door, ring twice, and mind the dog","address":{"city":"Bremen","zip":"28195"}}'
