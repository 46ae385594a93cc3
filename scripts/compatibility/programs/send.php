<?php // HTTP clients of PHP: `send.php CLIENT MODE URL`; `clients.py` says what the modes are.
[, $client, $mode, $url] = $argv;
$method = $mode === 'follow' ? 'GET' : 'POST';
$body = '{"sku": "A-1"}';
$fields = ['Content-Type: application/json'];
if ($mode === 'expect') {
    $fields[] = 'Expect: 202-accepted';
}
if ($mode === 'redirect' || $mode === 'follow') {
    array_push($fields, 'Authorization: Basic eDp5', 'Prefer: wait=1', 'Accept: application/json', 'X-Own: 1', 'Idempotency-Key: k');
}
if ($client === 'curl') {
    $handle = curl_init();
    $always = [CURLOPT_RETURNTRANSFER => true, CURLOPT_FOLLOWLOCATION => true, CURLOPT_SSL_VERIFYPEER => false,
        CURLOPT_SSL_VERIFYHOST => 0, CURLOPT_TIMEOUT => 25];
    curl_setopt_array($handle, $always);
    if ($mode === 'reused') {
        curl_setopt($handle, CURLOPT_URL, dirname($url) . '/warm');
        curl_exec($handle);
    }
    curl_setopt_array($handle, [CURLOPT_URL => $url, CURLOPT_HTTPHEADER => $fields]);
    if ($method === 'POST') {
        curl_setopt_array($handle, [CURLOPT_POST => true, CURLOPT_POSTFIELDS => $body]);
    }
    curl_exec($handle);
    echo json_encode(['status' => curl_getinfo($handle, CURLINFO_RESPONSE_CODE), 'message' => curl_error($handle)]);
} else {
    $options = ['method' => $method, 'header' => $fields, 'ignore_errors' => true, 'timeout' => 25];
    $options += $method === 'POST' ? ['content' => $body] : [];
    $answer = @file_get_contents($url, false, stream_context_create(['http' => $options]));
    preg_match_all('~^HTTP/\S+ (\d+)~m', implode("\n", $http_response_header ?? []), $found);
    echo json_encode(['status' => (int) end($found[1]), 'message' => $answer === false ? 'none' : '']);
}
