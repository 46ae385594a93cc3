# The application on servers of Ruby; `app.py` says what its paths do.
HALVES = Enumerator.new do |out|
  out << 'x' * 1000
  sleep 0.1
  out << 'x' * 1000
  raise 'the application fails half-way'
end

run(lambda do |env|
  what = env['PATH_INFO'].split('/').last
  env['rack.input'].read unless %w[early refuse].include?(what)
  if what == 'slow'
    File.write(ENV['EXECUTED'], "#{env['HTTP_OPERATION_ID']}\n", mode: 'a')
    sleep 0.2
  end
  fields = { 'Content-Type' => 'text/plain' }
  fields['Content-Length'] = '5000' if what == 'cut-length'
  150.times { |n| fields["X-Field-#{n}"] = '1' } if what == 'fields'
  status = { 'refuse' => 413, 'empty' => 205 }.fetch(what, 200)
  body = what.start_with?('cut') ? HALVES : [what == 'empty' ? '' : 'done']
  [status, fields, body]
end)
