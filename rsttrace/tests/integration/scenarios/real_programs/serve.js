// Executes one command per line. A client of the next port gets the process id, and is never read from.
const cluster = require('cluster');
const net = require('net');

const [port, mode] = [Number(process.argv[1]), process.argv[2]];

function serve(ready) {
  const unread = [];
  process.on('message', () => unread.forEach((socket) => socket.destroy()));
  net.createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (command) => {
      if (String(command) === 'pid\n') socket.write(`${process.pid}\n`);
      if (String(command) === 'abort\n') socket.resetAndDestroy();
    });
  }).listen(port, '127.0.0.1', () => {
    net.createServer({ pauseOnConnect: true }, (socket) => {
      unread.push(socket);
      socket.write(`${process.pid}\n`);
    }).listen(port + 1, '127.0.0.1', ready);
  });
}

if (mode === 'cluster' && cluster.isPrimary) {
  // The primary accepts, and passes each connection to a worker.
  let listening = 0;
  cluster.on('listening', () => { if (++listening === 4) console.log('ready'); });
  const workers = [cluster.fork(), cluster.fork()];
  process.stdin.on('data', () => workers.forEach((worker) => worker.send('destroy')));
} else {
  serve(() => { if (mode !== 'cluster') console.log('ready'); });
  if (mode !== 'cluster') process.stdin.on('data', () => process.emit('message'));
}
