// Renews the page in place, so that it keeps its scroll position.
const scrolled=()=>[...document.querySelectorAll(".wide")];
const renew=async()=>{
  try{
    const answer=await fetch(location.href,{cache:"no-store",signal:AbortSignal.timeout(5000)});
    if(!answer.ok)throw answer.status;
    const fresh=new DOMParser().parseFromString(await answer.text(),"text/html").querySelector("main");
    const places=scrolled().map(part=>part.scrollLeft);
    if(!String(getSelection()))document.querySelector("main").replaceWith(fresh);
    scrolled().forEach((part,index)=>part.scrollLeft=places[index]||0);
    document.body.classList.remove("lost");
  }catch{document.body.classList.add("lost")}
  setTimeout(renew,2000);
};
setTimeout(renew,2000);
