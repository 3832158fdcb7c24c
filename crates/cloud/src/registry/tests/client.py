import base64, hashlib, http.client, json, os, socket, urllib.parse

OCI = 'application/vnd.oci.image.manifest.v1+json'
INDEX = 'application/vnd.oci.image.index.v1+json'
DOCKER = 'application/vnd.docker.distribution.manifest.v2+json'
LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'
CONFIG = 'application/vnd.oci.image.config.v1+json'
DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json'


def basic(pair):
    return 'Basic ' + base64.b64encode(pair.encode()).decode()


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    def json(self):
        return json.loads(self.body)

    def expect(self, status):
        assert self.status == status, (self.status, self.body)
        assert self.headers['docker-distribution-api-version'] == 'registry/2.0'
        return self

    def refused(self, status, code):
        self.expect(status)
        error = self.json()['errors'][0]
        assert error['code'] == code and error['message'], error
        return error


def call(method, path, body=None, who='IMAGES', **headers):
    headers = {name.replace('_', '-'): value for name, value in headers.items()}
    if who:
        headers['Authorization'] = basic(os.environ[who])
    connection = http.client.HTTPConnection(os.environ['REGISTRY'], timeout=60)
    connection.request(method, path, body=body, headers=headers)
    return Answer(connection.getresponse())


def digest(content):
    return 'sha256:' + hashlib.sha256(content).hexdigest()


def begin(name='app', **options):
    answer = call('POST', f'/v2/{name}/blobs/uploads/', **options).expect(202)
    assert answer.headers['range'] == '0-0'
    return answer.headers['location']


def push_blob(content, name='app', kind=None):
    path = begin(name)
    call('PUT', f'{path}?digest={digest(content)}', content).expect(201)
    described = {'digest': digest(content), 'size': len(content)}
    return {**described, 'mediaType': kind} if kind else described


def image(layer, config=CONFIG, name='app'):
    config = push_blob(json.dumps({'of': layer.decode()}).encode(), name, config)
    return {'schemaVersion': 2, 'config': config, 'layers': [push_blob(layer, name)]}


def put(manifest, reference='latest', kind=OCI, name='app'):
    content = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    return call('PUT', f'/v2/{name}/manifests/{reference}', content, Content_Type=kind), content
