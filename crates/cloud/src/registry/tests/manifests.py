one, two = image(b'one'), image(b'two', DOCKER_CONFIG)
answer, content = put(one, 'v1')
answer.expect(201)
first = digest(content)
assert answer.headers['docker-content-digest'] == first
assert answer.headers['location'] == f'/v2/app/manifests/{first}'
for reference in ['v1', first]:
    answer = call('GET', f'/v2/app/manifests/{reference}').expect(200)
    assert (answer.body, answer.headers['content-type']) == (content, OCI)
    answer = call('HEAD', f'/v2/app/manifests/{reference}').expect(200)
    assert answer.headers['content-length'] == str(len(content))
    assert answer.headers['docker-content-digest'] == first
# The same repository, written in full.
call('HEAD', '/v2/docker.io/library/app/manifests/v1').expect(200)
call('GET', '/v2/another/manifests/v1').refused(404, 'MANIFEST_UNKNOWN')

docker = dict(two, mediaType=DOCKER)
answer, content = put(docker, 'v2', DOCKER)
answer.expect(201)
second = digest(content)
assert call('GET', '/v2/app/manifests/v2').expect(200).headers['content-type'] == DOCKER

# An index, of which nothing is for this machine.
child = {'digest': first, 'size': len(json.dumps(one)), 'mediaType': OCI, 'platform': {'os': 'linux', 'architecture': 'z80'}}
for kind in [INDEX, LIST]:
    answer, content = put({'schemaVersion': 2, 'mediaType': kind, 'manifests': [child]}, 'all', kind)
    older = answer.expect(201).headers['docker-content-digest'] if kind == INDEX else older
    assert call('GET', '/v2/app/manifests/all').expect(200).headers['content-type'] == kind
lost = dict(child, digest=digest(b'lost'))
answer, _ = put({'schemaVersion': 2, 'manifests': [lost]}, 'broken', INDEX)
assert answer.refused(404, 'MANIFEST_BLOB_UNKNOWN')['detail']['digest'] == lost['digest']

# What refers to another.
empty = push_blob(b'{}', kind='application/vnd.oci.empty.v1+json')
subject = {'digest': second, 'size': len(json.dumps(docker)), 'mediaType': DOCKER}
for kind in ['text/spdx', 'text/signature']:
    artifact = {'schemaVersion': 2, 'artifactType': kind, 'config': empty, 'layers': [empty], 'subject': subject,
                'annotations': {'of': kind}}
    reference = digest(json.dumps(artifact).encode())
    answer, _ = put(artifact, reference)
    assert answer.expect(201).headers['oci-subject'] == second
answer = call('GET', f'/v2/app/referrers/{second}').expect(200)
assert answer.headers['content-type'] == INDEX and len(answer.json()['manifests']) == 2
answer = call('GET', f'/v2/app/referrers/{second}?artifactType=text/spdx').expect(200)
(only,) = answer.json()['manifests']
assert only['annotations'] == {'of': 'text/spdx'} and answer.headers['oci-filters-applied'] == 'artifactType'
assert call('GET', f'/v2/app/referrers/{digest(b"nothing")}').expect(200).json()['manifests'] == []

# Lists, by pages; with what Tandem built.
assert call('GET', '/v2/app/tags/list').expect(200).json() == {'name': 'app', 'tags': ['all', 'v1', 'v2']}
seen, path = [], '/v2/app/tags/list?n=2'
while path:
    answer = call('GET', path).expect(200)
    seen.append(answer.json()['tags'])
    link = answer.headers['link']
    path = link and link[link.index('<') + 1:link.index('>')]
assert seen == [['all', 'v1'], ['v2']], seen
assert call('GET', '/v2/_catalog').expect(200).json() == {'repositories': ['app', 'localhost/tandem/shop-dev-job']}
answer = call('GET', '/v2/_catalog?n=1').expect(200)
assert answer.json() == {'repositories': ['app']} and 'last=app' in answer.headers['link']
call('GET', '/v2/none/tags/list').refused(404, 'NAME_UNKNOWN')
built = 'localhost/tandem/shop-dev-job'
assert call('GET', f'/v2/{built}/tags/list').expect(200).json()['tags'] == ['0123456789ab']

# What Tandem built is made pullable when it is asked for.
answer = call('HEAD', f'/v2/{built}/manifests/0123456789ab').expect(200)
manifest = call('GET', f'/v2/{built}/manifests/0123456789ab').expect(200)
assert digest(manifest.body) == answer.headers['docker-content-digest']
for described in [manifest.json()['config'], *manifest.json()['layers']]:
    blob = call('GET', f'/v2/{built}/blobs/{described["digest"]}').expect(200).body
    assert digest(blob) == described['digest'] and len(blob) == described['size']

# Deleted: a tag, then a manifest with its tags. The index still names the first.
call('DELETE', '/v2/app/manifests/v1').expect(202)
call('GET', '/v2/app/manifests/v1').refused(404, 'MANIFEST_UNKNOWN')
call('GET', f'/v2/app/manifests/{first}').expect(200)
put(docker, 'again', DOCKER)[0].expect(201)
call('DELETE', f'/v2/app/manifests/{second}').expect(202)
for reference in ['v2', 'again', second]:
    call('GET', f'/v2/app/manifests/{reference}').refused(404, 'MANIFEST_UNKNOWN')
call('HEAD', f'/v2/app/blobs/{two["layers"][0]["digest"]}').expect(404)
call('DELETE', '/v2/app/manifests/all').expect(202)
# The index from which the tag was moved is still there, by its digest.
call('GET', f'/v2/app/blobs/{one["layers"][0]["digest"]}').expect(200)
call('DELETE', f'/v2/app/manifests/{older}').expect(202)
call('HEAD', f'/v2/app/blobs/{one["layers"][0]["digest"]}').expect(404)
