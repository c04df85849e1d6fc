// An HTTP client. It executes one command per line, on connections that its agent keeps, and answers with one line: the
// status, or the code of the error.
const http = require('http');
const agent = new http.Agent({ keepAlive: true });

function obey(verb, url, number) {
  return new Promise((resolve) => {
    const method = verb === 'post' || verb === 'upload' ? 'POST' : 'GET';
    const request = http.request(url, { agent, method }, (response) => {
      let received = 0;
      response.on('data', (data) => {
        received += data.length;
        if (verb === 'part' && received >= number) {
          request.destroy();
          resolve(received);
        }
      });
      response.on('end', () => resolve(response.statusCode));
      response.on('error', (error) => resolve(error.code));
    });
    request.on('error', (error) => resolve(error.code));
    if (verb === 'wait') request.setTimeout(number * 1000, () => request.destroy());
    request.end(verb === 'upload' ? Buffer.alloc(number) : undefined);
  });
}

require('readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  const [verb, url, number] = line.split(' ');
  if (verb === 'leave') process.exit(0);
  console.log(await obey(verb, url, Number(number)));
});
console.log('ready');
