# The application on WEBrick: `app.rb PORT`; `app.py` says what its paths do.
require 'webrick'

server = WEBrick::HTTPServer.new(BindAddress: '127.0.0.1', Port: ARGV[0].to_i, RequestTimeout: 1,
                                 Logger: WEBrick::Log.new(File::NULL), AccessLog: [])
server.mount_proc '/' do |request, response|
  what = request.path.split('/').last
  request.body unless %w[early refuse].include?(what)
  if what == 'slow'
    File.write(ENV['EXECUTED'], "#{request['Operation-Id']}\n", mode: 'a')
    sleep 0.2
  end
  response.status = { 'refuse' => 413, 'empty' => 205 }.fetch(what, 200)
  response['Content-Type'] = 'text/plain'
  response['Content-Length'] = '5000' if what == 'cut-length'
  150.times { |n| response["X-Field-#{n}"] = '1' } if what == 'fields'
  if what.start_with?('cut')
    response.chunked = what == 'cut'
    response.body = proc do |out|
      out.write('x' * 1000)
      sleep 0.1
      out.write('x' * 1000)
      raise 'the application fails half-way'
    end
  else
    response.body = what == 'empty' ? '' : 'done'
  end
end
%w[INT TERM].each { |name| trap(name) { server.shutdown } }
server.start
