"""Warm start from the published network (18 characters): heads, strangers, composites, sampling. key=value ..."""
import os, sys, json, time
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS","1"); os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL","3")
import cv2, numpy as np, keras, pandas as pd
from sklearn.metrics import f1_score, roc_auc_score
from lib import paths
from lib.data import batches, boxes, manifest, pictures, synthetic, sample
from lib.evaluation import changes
from lib.training import composites, heads, networks, outliers, recipes, scene_batches
o=dict(name="w",seed=0,known=38,epochs=4,size=96,power=1.0,comp=0.0,strange=0.25,out=0.0,cap=0.0,made=0.5,bg=0.15,lr=0.005,smooth=0.1,mapw=1.0,drawings=40,warm=1,prior=0.0,bs=64,small=0.0,width=32,minpic=25,evalonly="",town=0,kinds="012345",tau=0.0,outkeep=1.0)
for a in sys.argv[1:]:
    k,v=a.split("="); o[k]=type(o[k])(v)
print(o,flush=True)
RAW=paths.ROOT/"data/raw/the-simpsons-characters-dataset" if hasattr(paths,"ROOT") else __import__("pathlib").Path("data/raw/the-simpsons-characters-dataset")
images,t18=manifest.load(paths.PROCESSED/"simpsons18-96"); _,t38=manifest.load(paths.PROCESSED/"simpsons38-96")
assert (t18.path==t38.path).all()
# the published split for the 18, the other 20 as in the 38 split, unless a group binds them to one of the 18
t=t38.copy(); c18=manifest.characters(t18); is18=t.character.isin(c18)
t.loc[is18,["split","left_out"]]=t18.loc[is18,["split","left_out"]]
gs=t18[t18.split.isin(["train","validation","test"])].groupby("group").split.first()
other=~is18&(t.split!="")&(t.split!="kaggle_test")
bound=t.group.map(gs); hit=other&bound.notna(); t.loc[hit,"split"]=bound[hit]
all38=sorted(t.character[t.split.isin(["train","validation"])].unique())
chars=c18 if o["known"]==18 else all38
C=len(chars); lab={c:i for i,c in enumerate(chars)}
labels=np.full(len(images),-1); use=t[(t.split!="")&t.character.isin(chars)]; labels[use.image]=use.character.map(lab)
rows={s:t.image[(t.split==s)&t.character.isin(chars)].to_numpy() for s in ("train","validation")}
unk=t.image[other&~t.character.isin(chars)].to_numpy() if o["known"]==18 else np.array([],int)
FREQ=np.array([c in c18 for c in chars])
# boxes → square
B=boxes.read("../shared/data/boxes.csv"); BX=np.full((len(images),4),np.nan)
for r in t[t.path.isin(B)&(t.image>=0)].itertuples():
    # frames have no margin as a rule; framing needs only the shape then
    w,h=r.width,r.height
    fr=pictures.Framing((0,0,w,h),pictures._inner_size((w,h),96,"bounded"))
    BX[r.image]=boxes.to_square(B[r.path],fr,(h,w),96)
cache=paths.ROOT/"outputs/experiments/clip96.npz" if hasattr(paths,"ROOT") else __import__("pathlib").Path("outputs/experiments/clip96.npz")
if cache.exists(): z=np.load(cache); clip,names=z["clip"],z["names"].tolist()
else:
    clip,names=outliers.read_zip("../shared/data/openclipart-sample.zip",96); np.savez(cache,clip=clip,names=np.array(names))
cs=outliers.split_by_name(names)
figs=np.stack([outliers.figure(96,np.random.default_rng((7,i))) for i in range(300)])
vfigs=np.stack([outliers.figure(96,np.random.default_rng((8,i))) for i in range(100)])
from lib.data.town_figures import DRAWABLE
from lib.data.sample_figures import FEATURES
extra,el=synthetic.draw(chars,o["drawings"],96,"bounded",o["seed"],DRAWABLE if o["town"] else FEATURES)
shown=batches.Joined(images,extra); sl=np.concatenate([labels,el]); sb=np.concatenate([BX,np.full((len(extra),4),np.nan)])
keras.utils.set_random_seed(o["seed"])
net=networks.build("springfield",num_characters=18,picture_size=o["size"],width=o["width"],dropout=.2)
if o["warm"]:
    from ai_edge_litert.interpreter import Interpreter
    it=Interpreter(model_path="outputs/published/springfield-seed-2/model.tflite",experimental_preserve_all_tensors=True,experimental_op_resolver_type=__import__("ai_edge_litert.interpreter",fromlist=["x"]).OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES); it.allocate_tensors()
    def val(k):
        d=it._get_tensor_details(int(k),0); v=it.get_tensor(int(k)); q=d["quantization_parameters"]
        if v.dtype==np.int8:
            s=q["scales"]; v=v.astype("float32")*s.reshape([-1]+[1]*(v.ndim-1))
        return v.astype("float32")
    convs,bns,dense=[],[],None
    ops_=it._get_ops_details()
    for op in ops_:
        if op["op_name"]=="CONV_2D": convs.append(val(op["inputs"][1]).transpose(1,2,3,0))
        if op["op_name"]=="MUL" and it._get_tensor_details(int(op["inputs"][1]),0)["shape"].size==1: bns.append([val(op["inputs"][1])])
        if op["op_name"]=="ADD" and it._get_tensor_details(int(op["inputs"][1]),0)["shape"].size==1 and bns and len(bns[-1])==1: bns[-1].append(val(op["inputs"][1]))
        if op["op_name"]=="FULLY_CONNECTED": dense=(val(op["inputs"][1]).T,val(op["inputs"][2]))
    for kind in (1,3):
        L=[l for l in net.layers if isinstance(l,keras.layers.Conv2D) and l.kernel_size[0]==kind]; W=[c for c in convs if c.shape[0]==kind]
        assert len(L)==len(W)
        for l,w in zip(L,W): assert l.kernel.shape==w.shape,(l.kernel.shape,w.shape); l.kernel.assign(w)
    L=[l for l in net.layers if isinstance(l,keras.layers.BatchNormalization)]; assert len(L)==len(bns),(len(L),len(bns))
    for l,(g,b) in zip(L,bns): l.gamma.assign(g*np.sqrt(1+l.epsilon)); l.beta.assign(b); l.moving_mean.assign(0*b); l.moving_variance.assign(0*b+1)
    net.layers[-1].set_weights(dense)
model=heads.with_heads(heads.body_of(net),C,.2)
sz=(o["size"],)*2
def small(x): return np.ascontiguousarray(x) if o["size"]==96 else np.stack([cv2.resize(p,sz,interpolation=cv2.INTER_AREA) for p in x])
if o["warm"]:
    # batch statistics of the converted network: normalise anew is not needed, moving mean 0/var 1 are folded; refit them
    v=small(images[rows["validation"]][:512]); 
    if o["known"]==18:
        p=np.concatenate([net.predict_on_batch(v[i:i+128]) for i in range(0,512,128)]); print("published net on validation",(p.argmax(1)==labels[rows["validation"]][:512]).mean(),flush=True)
    # training mode uses batch statistics: make gamma/beta fit them (data-dependent conversion), layer by layer
    r18=t.image[(t.split=="train")&t.character.isin(c18)].to_numpy(); tr=small(images[np.random.default_rng(0).permutation(r18)[:512]])
    aug0=batches.Augmentation(0.1,True,.25,8,.3,.4,.3,.2,.2,.15); r_=np.random.default_rng(1)
    tr=np.stack([batches.augment(p,aug0,r_) for p in tr])
    for l in L:
        f=keras.Model(net.input,l.input); x=np.concatenate([f.predict_on_batch(tr[i:i+128]) for i in range(0,512,128)]); m=x.mean((0,1,2)); vv=x.var((0,1,2))
        g,b=l.gamma.numpy()/np.sqrt(1+l.epsilon),l.beta.numpy()
        l.gamma.assign(g*np.sqrt(vv+l.epsilon)); l.beta.assign(b+g*m); l.moving_mean.assign(m); l.moving_variance.assign(vv)
    # head: known characters keep their weights
    W=model.get_layer("probabilities").kernel.numpy()*0.3; bb=model.get_layer("probabilities").bias.numpy()
    for i,c in enumerate(chars):
        if c in c18: W[:,i]=dense[0][:,c18.index(c)]; bb[i]=dense[1][c18.index(c)]
        else: bb[i]=dense[1].min()-1
    model.get_layer("probabilities").set_weights([W,bb])
from pathlib import Path
ZD=Path("outputs/experiments/z"); ZD.mkdir(exist_ok=True)
adds=[l for l in model.layers if isinstance(l,keras.layers.Add)]; z=adds[5].output  # end of the third stage
lower=keras.Model(model.input,z)
for l in lower.layers: l.trainable=False
def zof(name,make):
    f=ZD/f"{name}.npy"
    if not f.exists():
        x=make(); np.save(f,np.concatenate([np.asarray(lower.predict_on_batch(small(x[i:i+64]))).astype("float16") for i in range(0,len(x),64)]))
    return np.load(f,mmap_mode="r")
tail=keras.Model(z,model.output)
print("tail",tail.count_params(),"of",model.count_params(),z.shape,flush=True)
feat=keras.Model(z,{**model.output,"f":model.get_layer("pooled").output})
def ask(name,make):
    x=zof(name,make); outs=[feat.predict_on_batch(x[i:i+256].astype("float32")) for i in range(0,len(x),256)]
    return {k:np.concatenate([q[k] for q in outs]) for k in outs[0]}
def pool_fig(): pass
import faiss
def report(tag):
    R={"tag":tag}; rng=np.random.default_rng(5)
    vr=rows["validation"]; V=ask("val"+KN,lambda: images[vr]); y=labels[vr]; P=V["probabilities"]; y_=P[:,:C].argmax(1)
    f=f1_score(y,y_,average=None,labels=range(C),zero_division=0)
    R.update(acc=(y_==y).mean(),f1=f.mean(),f1_18=f[FREQ].mean()); 
    if (~FREQ).any(): R["f1_20"]=f[~FREQ].mean()
    lg=np.log(P+1e-12)
    def ece(conf,ok,b=15):
        idx=np.minimum((conf*b).astype(int),b-1); return sum(abs(conf[idx==i].sum()-ok[idx==i].sum()) for i in range(b))/len(conf)
    best=min(((-(lg[np.arange(len(y)),y]/T-np.log(np.exp(lg/T).sum(1)))).mean(),T) for T in np.arange(.3,2,.02)); T=best[1]; R.update(T=T,nll=best[0])
    def cal(Z): q=np.exp(np.log(Z+1e-12)/T); return q/q.sum(1,keepdims=True)
    K=cal(P); R["ece"]=ece(K[:,:C].max(1),y_==y)
    tf=ask("knn"+KN,lambda: images[np.random.default_rng(0).permutation(rows["train"])[:6000]])["f"]; tf/=np.linalg.norm(tf,axis=1,keepdims=True); ix=faiss.IndexFlatIP(tf.shape[1]); ix.add(tf)
    def scores(A):
        K=cal(A["probabilities"]); n=A["f"]/np.linalg.norm(A["f"],axis=1,keepdims=True); m=A["class_map"].max((1,2))
        k=K[:,:C]; s={"maxp":k.max(1),"not_nobody":1-K[:,C],"cond_max":(k/k.sum(1,keepdims=True)).max(1),"map":m.max(1),"knn10":ix.search(n,10)[0].mean(1)}
        s["energy"]=np.log(A["probabilities"][:,:C].sum(1)+1e-12)-0  # of the 39-way softmax: known mass
        s["maxp*map"]=s["maxp"]*np.take_along_axis(m,k.argmax(1)[:,None],1)[:,0]; s["maxp*knn"]=s["maxp"]*np.clip(s["knn10"],0,1)**4
        return s
    S=scores(V); thr={k:np.quantile(v,.03) for k,v in S.items()}
    gen=np.random.default_rng(99)
    far={"clipart":clip[cs["validation"]],"text":np.stack([outliers.text(96,gen) for _ in range(100)]),"pattern":np.stack([outliers.pattern(96,gen) for _ in range(100)]),"scenery":np.stack([outliers.scenery(96,gen) for _ in range(100)]),"figures":vfigs,
      "scenery_text":np.stack([outliers.caption(outliers.scenery(96,gen),gen) for _ in range(100)])}
    if len(unk): far["unknown"]=images[np.sort(unk)]
    d=[]
    from sklearn.datasets import load_sample_images
    ph=[i for i in load_sample_images().images]
    import matplotlib.cbook as cb; ph.append(cv2.imread(str(cb.get_sample_data("grace_hopper.jpg",asfileobj=False)))[...,::-1])
    for k in range(60):
        q=ph[k%3]; h,w=q.shape[:2]; s=int(min(h,w)*gen.uniform(.3,.9)); yy,xx=gen.integers(0,h-s+1),gen.integers(0,w-s+1); d.append(pictures.resize(np.ascontiguousarray(q[yy:yy+s,xx:xx+s]),96,"bounded"))
    far["photo_crops"]=np.stack(d)
    for n,x in far.items():
        A=scores(ask("far_"+n,lambda: x)); R["far_"+n]={k:[round(float((A[k]>=thr[k]).mean()),3),round(float(roc_auc_score(np.r_[np.ones(len(S[k])),np.zeros(len(x))],np.r_[S[k],A[k]])),4)] for k in A}
        if n=="unknown":
            R["fpr95_unknown"]={k:round(float((A[k]>=np.quantile(S[k],.05)).mean()),3) for k in A}
    # known in the strangers' styles
    pick=np.sort(rng.choice(len(vr),240,replace=False)); paths_=t.set_index("image").path
    raw=[cv2.imread(str(RAW/paths_[vr[i]]))[...,::-1] for i in pick]
    for kind,st in (("cut_out_on_white","slight"),("cut_out_on_white","medium"),("small_on_white","medium"),("captioned","medium"),("captioned","strong")):
        A=ask(f"chg{KN}{kind}{st}",lambda: np.stack([pictures.resize(np.ascontiguousarray(changes.change(p,kind,st,i)),96,"bounded") for i,p in enumerate(raw)])); s=scores(A); ok=A["probabilities"][:,:C].argmax(1)==y[pick]
        R[f"known_{kind}_{st}"]={"acc":round(float(ok.mean()),3),**{k:round(float((s[k]<thr[k])[ok].mean()),3) for k in ("maxp","not_nobody","knn10","map","maxp*map","maxp*knn")}}
    dr,dl=synthetic.draw(chars,10,96,"bounded",123); A=ask("drawn"+KN,lambda: dr); s=scores(A); drA=A; ok=A["probabilities"][:,:C].argmax(1)==dl
    R["known_drawn"]={"acc":round(float(ok.mean()),3),**{k:round(float((s[k]<thr[k])[ok].mean()),3) for k in ("maxp","not_nobody","knn10","map")}}
    # places
    hb=~np.isnan(BX[vr][:,0]); M=V["class_map"][hb]; bx=BX[vr][hb]; yy=y[hb]
    hitp,iou={"right":[]},{}
    for i in range(len(M)):
        m=cv2.resize(M[i][:,:,yy[i]],(96,96),interpolation=cv2.INTER_CUBIC); py,px=np.unravel_index(m.argmax(),m.shape); l,tt,r,b=bx[i]*96
        hitp["right"].append(l<=px+.5<=r and tt<=py+.5<=b)
        for th in (.3,.4,.5,.6):
            mm=m>=th*m.max(); lab_,cc=cv2.connectedComponents(mm.astype("uint8")); mm=cc==cc[py,px]; ys,xs=np.where(mm); q=np.array([xs.min(),ys.min(),xs.max()+1,ys.max()+1])
            inter=max(0,min(q[2],r)-max(q[0],l))*max(0,min(q[3],b)-max(q[1],tt)); u=(q[2]-q[0])*(q[3]-q[1])+(r-l)*(b-tt)-inter; iou.setdefault(th,[]).append(inter/u)
    R["pointing"]=round(float(np.mean(hitp["right"])),4); R["iou50"]={th:round(float((np.array(v)>=.5).mean()),3) for th,v in iou.items()}; R["boxes"]=len(M)
    # two side by side, made of the files
    pairs=[]; gp=np.random.default_rng(11)
    for _ in range(300):
        a,b=gp.choice(len(vr),2,replace=False)
        if y[a]==y[b]: continue
        pa,pb=(cv2.imread(str(RAW/paths_[vr[i]]))[...,::-1] for i in (a,b)); h=min(pa.shape[0],pb.shape[0])
        pa,pb=(cv2.resize(p,(max(1,round(p.shape[1]*h/p.shape[0])),h),interpolation=cv2.INTER_AREA) for p in (pa,pb)); pairs.append((pictures.resize(np.hstack([pa,pb]),96,"bounded"),y[a],y[b]))
    A=ask("pairs"+KN,lambda: np.stack([p[0] for p in pairs])); mm=A["class_map"].max((1,2)); 
    # singles: parts cut around the box, so that one figure is visible as a rule
    singles=[]; sy=[]
    for i in np.flatnonzero(hb)[:500]:
        l,tt,r,b=np.clip(BX[vr[i]],0,1); w,h=r-l,b-tt; l,tt,r,b=max(0,l-.1*w),max(0,tt-.1*h),min(1,r+.1*w),min(1,b+.1*h); p=images[vr[i]]; c=p[int(tt*96):int(b*96)+1,int(l*96):int(r*96)+1]
        if min(c.shape[:2])<16: continue
        singles.append(pictures.resize(np.ascontiguousarray(c),96,"bounded")); sy.append(y[i])
    Sg=ask("singles"+KN,lambda: np.stack(singles)); sm=Sg["class_map"].max((1,2)); sy=np.array(sy)
    fm=V["class_map"].max((1,2)); sec=fm.copy(); sec[np.arange(len(y)),y]=-1; ssec=sm.copy(); ssec[np.arange(len(sy)),sy]=-1
    drm=drA["class_map"].max((1,2)); drm[np.arange(len(dl)),dl]=-1
    R["two"]={}
    for th in (.2,.3,.4,.5,.6,.7,.8):
        both=np.mean([mm[i,p[1]]>=th and mm[i,p[2]]>=th for i,p in enumerate(pairs)])
        R["two"][th]=dict(both=round(float(both),3),wrong_third=round(float(np.mean([(np.delete(mm[i],[p[1],p[2]])>=th).any() for i,p in enumerate(pairs)])),3),second_frames=round(float((sec.max(1)>=th).mean()),3),second_cropped=round(float((ssec.max(1)>=th).mean()),3),second_drawn=round(float((drm.max(1)>=th).mean()),3))
    top2=np.argsort(-mm,1)[:,:2]; R["two_best2"]=round(float(np.mean([set(top2[i])=={p[1],p[2]} for i,p in enumerate(pairs)])),3)
    R={k:(round(float(v),4) if isinstance(v,(float,np.floating)) else v) for k,v in R.items()}
    print(json.dumps(R,default=str),flush=True); json.dump(R,open(f"outputs/experiments/{o['name']}-{tag}.json","w"),default=str,indent=1)
KN=str(o["known"])
aug=batches.Augmentation(0.1,True,.25,8,.3,.4,.3,.2,.2,.15)
town,tl=synthetic.draw(all38,60,96,"bounded",0,{k:v for k,v in DRAWABLE.items() if k not in FEATURES}); samp,sal=synthetic.draw(all38,40,96,"bounded",0)
lab38=np.full(len(images),-1); u=t[(t.split!="")&t.character.isin(all38)]; lab38[u.image]=u.character.map({c:i for i,c in enumerate(all38)}); tr38=t.image[(t.split=="train")&t.character.isin(all38)].to_numpy()
tfile=ZD/"targets.npz"
SHOWN=batches.Joined(images,town,samp); SL=np.concatenate([lab38,tl,sal]); SB=np.concatenate([BX,np.full((len(tl)+len(sal),4),np.nan)])
n0=len(images); TOWN=n0+np.arange(len(tl)); SAMP=n0+len(tl)+np.arange(len(sal))
def make_train():
    g=scene_batches.SceneBatches(SHOWN,SL,np.concatenate([tr38,SAMP]),SB,clip[cs["train"]],num_characters=38,mixture=scene_batches.Mixture(1.0,1.0,o["strange"],.2,0.1),augmentation=aug,seed=1,figures=figs)
    rng=np.random.default_rng(77); cnt=np.bincount(lab38[tr38],minlength=38)
    S,kind=[],[]
    def add(rows_,k,comp):
        import dataclasses
        for r in rows_:
            g.mixture=dataclasses.replace(g.mixture,composite_share=float(comp)); S.append(g._scene(r,rng)); kind.append(k)
    add(tr38,0,0)                                             # each frame once
    rare=tr38[cnt[lab38[tr38]]<190]; add(np.repeat(rare,3),1,0) # rare ones thrice more
    add(SAMP,2,0); add(TOWN,3,0)
    add(rng.choice(np.concatenate([tr38,rare,rare]),3000,replace=False),4,1)
    add(np.full(3500,-1),5,0)
    return S,np.array(kind)
def encode(S):
    P=np.stack([composites.target(s,38) for s in S]).astype("float16"); M=np.stack([composites.cell_target(s,38,6) for s in S]).astype("float16"); return P,M
if not tfile.exists():
    S,kind=make_train(); P,M=encode(S); print("scenes",len(S),flush=True)
    zof("train",lambda: np.stack([s.picture for s in S])); np.savez(tfile,P=P,M=M,kind=kind); del S
ZT=zof("train",None); q=np.load(tfile); PT,MT,kind=q["P"].astype("float32"),q["M"],q["kind"]
use_=np.isin(kind,[int(c) for c in str(o["kinds"])])
if o["known"]==18:
    keep=[all38.index(c) for c in chars]; drop=[i for i in range(38) if i not in keep]
    use_&=PT[:,drop].sum(1)==0; PT=np.concatenate([PT[:,keep],PT[:,38:]],1); MT=MT[...,keep]
idx=np.flatnonzero(use_); print("training scenes",len(idx),np.bincount(kind[idx]),flush=True)
if o["outkeep"]<1: d=np.random.default_rng(3).random(len(idx)); idx=idx[(kind[idx]!=5)|(d<o["outkeep"])]
class CB(keras.utils.PyDataset):
    def __init__(s): super().__init__(workers=1); s.begin(0)
    def begin(s,e): s.p=np.random.default_rng((o["seed"],e)).permutation(idx)
    def __len__(s): return -(-len(s.p)//64)
    def __getitem__(s,i):
        r=np.sort(s.p[i*64:i*64+64]); return ZT[r].astype("float32"),{"probabilities":PT[r],"class_map":MT[r].astype("float32")}
tb=CB()
pri=np.log(np.maximum(PT[idx].sum(0),1)/PT[idx].sum()).astype("float32")
def ce(yt,yp):
    if o["tau"]:
        lg=keras.ops.log(keras.ops.maximum(yp,1e-9))+o["tau"]*pri; yp=keras.ops.softmax(lg)
    return keras.losses.categorical_crossentropy(yt,yp,label_smoothing=o["smooth"])
opt=recipes.optimizer("muon",recipes.learning_rate("one_cycle",o["lr"],max(1,o["epochs"]),len(tb)),.95,.1)
tail.compile(opt,loss={"probabilities":ce,"class_map":heads.CellLoss()},loss_weights={"probabilities":1.0,"class_map":o["mapw"]})
class E(keras.callbacks.Callback):
    def on_epoch_begin(self,e,logs=None): tb.begin(e); self.t=time.time()
    def on_epoch_end(self,e,logs=None): print("epoch",e+1,round(time.time()-self.t),"s",logs,flush=True)
tail.fit(tb,epochs=o["epochs"],shuffle=False,verbose=0,callbacks=[E()])
tail.save_weights(f"outputs/experiments/{o['name']}.weights.h5")
report("final")
