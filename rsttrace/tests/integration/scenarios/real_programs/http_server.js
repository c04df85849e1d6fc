// A web server: its address, port and the time for which it keeps idle connections, milliseconds, are arguments.
const [address, port, keepalive] = process.argv.slice(1);

const server = require('http').createServer((request, response) => {
  const routes = {
    '/slow': () => setTimeout(() => response.end('late'), 1900),
    '/events': () => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      const timer = setInterval(() => response.write('data: 1\n\n'), 100);
      response.on('close', () => clearInterval(timer));
    },
    // Ends with the upload unread.
    '/exit': () => process.exit(3),
  };
  (routes[request.url] ?? (() => response.end('hello')))();
});
server.keepAliveTimeout = Number(keepalive);
server.listen(Number(port), address, () => console.log('ready'));
