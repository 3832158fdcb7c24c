# Who asks.
for who in [None, 'NOBODY']:
    answer = call('GET', '/v2/', who=who)
    answer.refused(401, 'UNAUTHORIZED')
    assert answer.headers['www-authenticate'].startswith('Basic realm=')
call('GET', '/v2/', who='TASK').refused(403, 'DENIED')
for who in ['IMAGES', 'OPERATOR']:
    call('GET', '/v2/', who=who).expect(200)
    call('GET', '/v2', who=who).expect(200)
user, password = os.environ['IMAGES'].split(':')
for wrong in [f'{user}:{password[:-1]}A', f'{user}:', f':{password}', user, '', f'{user}:{password}x', 'ä:ö']:
    os.environ['WRONG'] = wrong
    call('GET', '/v2/', who='WRONG').refused(401, 'UNAUTHORIZED')
for wrong in ['Basic', 'Basic ???', 'Bearer abc', 'Basic ' + 'A' * 60000]:
    call('GET', '/v2/', who=None, Authorization=wrong).refused(401, 'UNAUTHORIZED')

# Names.
for wrong in ['App', 'a..b', '-a', 'a' * 256, 'a//b', '%2e%2e']:
    call('GET', f'/v2/{wrong}/tags/list').refused(400, 'NAME_INVALID')
    call('POST', f'/v2/{wrong}/blobs/uploads/').refused(400, 'NAME_INVALID')
call('GET', '/v2/app/manifests/-x').refused(400, 'MANIFEST_INVALID')
call('GET', '/v2/app/tags/list?n=many').refused(400, 'PAGINATION_NUMBER_INVALID')
for method, path in [('GET', '/v2/app'), ('PATCH', '/v2/'), ('DELETE', '/v2/_catalog'), ('POST', '/v2/app/manifests/v1')]:
    call(method, path).refused(405, 'UNSUPPORTED')

# Digests.
call('GET', '/v2/app/blobs/sha256:123').refused(400, 'DIGEST_INVALID')
call('GET', f'/v2/app/blobs/sha512:{"a" * 128}').refused(400, 'DIGEST_INVALID')
call('GET', f'/v2/app/blobs/{digest(b"none")}').refused(404, 'BLOB_UNKNOWN')
path = begin()
call('PUT', path, b'x').refused(400, 'DIGEST_INVALID')
call('PUT', f'{path}?digest={digest(b"other")}', b'x').refused(400, 'DIGEST_INVALID')
call('PUT', f'{path}?digest={digest(b"x")}', b'x').refused(404, 'BLOB_UPLOAD_UNKNOWN')
call('HEAD', f'/v2/app/blobs/{digest(b"x")}').expect(404)
call('POST', f'/v2/app/blobs/uploads/?digest={digest(b"other")}', b'x').refused(400, 'DIGEST_INVALID')

# Another's upload is not there, nor is it there for another repository.
path = begin()
for method in ['GET', 'PATCH', 'DELETE']:
    call(method, path, who='OPERATOR').refused(404, 'BLOB_UPLOAD_UNKNOWN')
    call(method, path.replace('/app/', '/other/')).refused(404, 'BLOB_UPLOAD_UNKNOWN')
call('PUT', f'{path}?digest={digest(b"")}', who='OPERATOR').refused(404, 'BLOB_UPLOAD_UNKNOWN')
call('GET', '/v2/app/blobs/uploads/../../x').refused(405, 'UNSUPPORTED')
call('DELETE', path).expect(204)

# A blob that is cut off in the middle, of which its digest is told at once.
host, port = os.environ['REGISTRY'].split(':')
with socket.create_connection((host, int(port))) as cut:
    head = (f'POST /v2/app/blobs/uploads/?digest={digest(b"a" * 100)} HTTP/1.1\r\nhost: x\r\n'
            f'authorization: {basic(os.environ["IMAGES"])}\r\ncontent-length: 100\r\n\r\n')
    cut.sendall(head.encode() + b'a' * 40)
    cut.shutdown(socket.SHUT_WR)
    while cut.recv(1000):
        pass
call('HEAD', f'/v2/app/blobs/{digest(b"a" * 100)}').expect(404)

# Manifests.
whole = image(b'layer')
lost = {'digest': digest(b'lost'), 'size': 4}
error = put(dict(whole, layers=[lost]))[0].refused(404, 'MANIFEST_BLOB_UNKNOWN')
assert error['detail']['digest'] == lost['digest']
put(dict(whole, layers=[dict(whole['layers'][0], size=4)]))[0].refused(400, 'MANIFEST_INVALID')
put(dict(whole, mediaType=DOCKER))[0].refused(400, 'MANIFEST_INVALID')
put(whole, kind='text/plain')[0].refused(400, 'MANIFEST_INVALID')
put(dict(whole, schemaVersion=1))[0].refused(400, 'MANIFEST_INVALID')
put(b'no json')[0].refused(400, 'MANIFEST_INVALID')
put(b'[' * 100_000)[0].refused(400, 'MANIFEST_INVALID')
put(whole, digest(b'other'))[0].refused(400, 'DIGEST_INVALID')
padded = json.dumps(whole).encode()
put(padded + b' ' * ((4 << 20) - len(padded)), 'large')[0].expect(201)
put(padded + b' ' * ((4 << 20) - len(padded) + 1), 'larger')[0].refused(413, 'SIZE_INVALID')
call('GET', '/v2/app/manifests/larger').refused(404, 'MANIFEST_UNKNOWN')
call('DELETE', '/v2/app/manifests/larger').refused(404, 'MANIFEST_UNKNOWN')
call('DELETE', f'/v2/app/manifests/{digest(b"none")}').refused(404, 'MANIFEST_UNKNOWN')
call('DELETE', f'/v2/app/blobs/{whole["layers"][0]["digest"]}').refused(409, 'DENIED')
assert call('GET', '/v2/app/tags/list').expect(200).json()['tags'] == ['large']
