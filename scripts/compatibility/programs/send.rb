# Ruby's HTTP client: `send.rb CLIENT MODE URL`; `clients.py` says what the modes are.
require 'json'
require 'net/http'

_, mode, url = ARGV
uri = URI(url)
fields = { 'Content-Type' => 'application/json' }
fields['Expect'] = '202-accepted' if mode == 'expect'
begin
  http = Net::HTTP.new(uri.host, uri.port)
  http.use_ssl = uri.scheme == 'https'
  http.verify_mode = OpenSSL::SSL::VERIFY_NONE if http.use_ssl?
  http.start do
    http.get('/warm') if mode == 'reused'
    puts JSON.generate(status: http.post(uri.path, '{"sku": "A-1"}', fields).code.to_i)
  end
rescue StandardError => e
  puts JSON.generate(raised: e.class.name, message: e.message[0, 120])
end
