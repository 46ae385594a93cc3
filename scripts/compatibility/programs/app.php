<?php // The application in PHP; `app.py` says what its paths do.
$what = basename(parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH));
if ($what !== 'early' && $what !== 'refuse') {
    file_get_contents('php://input');
}
if ($what === 'slow') {
    file_put_contents(getenv('EXECUTED'), ($_SERVER['HTTP_OPERATION_ID'] ?? '') . "\n", FILE_APPEND);
    usleep(200000);
}
http_response_code(['refuse' => 413, 'empty' => 205][$what] ?? 200);
header('Content-Type: text/plain');
if ($what === 'cut-length') {
    header('Content-Length: 5000');
}
for ($n = 0; $what === 'fields' && $n < 150; $n++) {
    header("X-Field-$n: 1");
}
if (str_starts_with($what, 'cut')) {
    echo str_repeat('x', 1000);
    flush();
    usleep(100000);
    echo str_repeat('x', 1000);
    flush();
    throw new RuntimeException('the application fails half-way');
}
echo $what === 'empty' ? '' : 'done';
